"""vLLM on this machine: `vllm serve` from its own environment, supervised, over loopback HTTP."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from llm_endpoint.errors import EngineFailed, EngineMissing, EngineUnavailable, WeightsMissing
from llm_endpoint.generation.protocol import GeneratorInfo
from llm_endpoint.generation.supervised import SupervisedGenerator
from llm_endpoint.supervisor import ChildSpec, Launch

EXECUTABLE_VARIABLE = "HEADRACE_VLLM"
_API_KEY_VARIABLE = "VLLM_API_KEY"
_SLEEP_TIMEOUT_S = 60.0
# Loading weights and compiling kernels; 43 to 94 s on 2 cores for 135 million parameters.
_START_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """What `vllm serve` is told beyond model and context.

    parallel: requests worked on at once. gpu_memory_utilization: share of the card, 0 to 1; None on
    a CPU, where cache_gib is what keys and values may take. can_sleep: needs a card. extra: more of
    its own options, as on its command line.
    """

    parallel: int = 16
    gpu_memory_utilization: float | None = None
    cache_gib: int = 2
    dtype: str = "auto"
    quantization: str | None = None
    can_sleep: bool = False
    extra: tuple[str, ...] = ()


class VllmGenerator(SupervisedGenerator):
    """A folder of safetensors, or a name that vLLM knows. Call start() once.

    count_tokens is exact and asks the engine.
    """

    def __init__(
        self,
        executable: Path,
        weights: str,
        *,
        model: str,
        weights_sha256: str | None,
        context_tokens: int,
        log_file: Path,
        options: VllmOptions = VllmOptions(),
    ) -> None:
        """executable: of `find_vllm`. Raises WeightsMissing for a path that is no folder."""
        if os.sep in weights and not Path(weights).is_dir():
            raise WeightsMissing(Path(weights))
        info = GeneratorInfo(model, "vllm", context_tokens, weights_sha256)
        spec = ChildSpec(
            name=model,
            argv=lambda launch: _argv(executable, weights, info, options, launch),
            log_file=log_file,
            api_key_variable=_API_KEY_VARIABLE,
            environment=_environment(options),
            start_timeout_s=_START_TIMEOUT_S,
            hang_timeout_s=120.0,
            stop_grace_s=15.0,
        )
        super().__init__(spec, info, dialect="vllm", max_connections=max(64, 2 * options.parallel))
        self._can_sleep = options.can_sleep
        self._is_asleep = False

    @property
    def can_sleep(self) -> bool:
        return self._can_sleep

    @property
    def is_asleep(self) -> bool:
        # A child that was started again after its death is awake.
        return self._is_asleep and self.is_ready()

    async def sleep(self) -> None:
        """Level 1: weights go to the memory of the CPU, the cache is dropped. Not on a CPU, whose
        builds do not have /sleep."""
        await asyncio.to_thread(self._post, "/sleep?level=1")
        self._is_asleep = True

    async def wake(self) -> None:
        await asyncio.to_thread(self._post, "/wake_up")
        self._is_asleep = False

    def _post(self, path: str) -> None:
        if (endpoint := self.endpoint) is None:
            raise EngineUnavailable(f"{self.info.model} is not up; it neither sleeps nor wakes")
        parts = urlsplit(endpoint.address)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_SLEEP_TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {endpoint.api_key}"}
            connection.request("POST", path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                message = response.read(300).decode("utf-8", "replace")
                raise EngineFailed(self.info.model, response.status, f"{path}: {message}")
        except (OSError, HTTPException) as exc:
            raise EngineUnavailable(f"{self.info.model} did not answer {path}: {exc}") from exc
        finally:
            connection.close()


def find_vllm(executable: Path | None, engines_dir: Path) -> Path:
    """`vllm`: the setting, $HEADRACE_VLLM, an installed engine below engines_dir, PATH.

    Raises EngineMissing.
    """
    named = executable or os.environ.get(EXECUTABLE_VARIABLE)
    if named is not None:
        if not Path(named).is_file():
            raise EngineMissing("vllm", f"{named} is not a file")
        return Path(named)
    installed = engines_dir / "vllm" / "bin" / "vllm"
    if installed.is_file():
        return installed
    if found := shutil.which("vllm"):
        return Path(found)
    raise EngineMissing("vllm", f"it is neither {installed} nor on the PATH")


def _argv(
    executable: Path, weights: str, info: GeneratorInfo, options: VllmOptions, launch: Launch
) -> list[str]:
    given: dict[str, object] = {
        "--served-model-name": info.model,
        "--host": "127.0.0.1",
        "--port": launch.port,
        "--max-model-len": info.context_tokens,
        "--max-num-seqs": options.parallel,
        "--dtype": options.dtype,
    }
    if options.gpu_memory_utilization is not None:
        given["--gpu-memory-utilization"] = f"{options.gpu_memory_utilization:.4f}"
    if options.quantization is not None:
        given["--quantization"] = options.quantization
    argv = [str(executable), "serve", weights]
    argv += [str(part) for option in given.items() for part in option]
    if options.can_sleep:
        argv.append("--enable-sleep-mode")
    return [*argv, *options.extra]


def _environment(options: VllmOptions) -> dict[str, str]:
    environment = {
        # Its environment is not ours: our packages must not be found there.
        "PYTHONPATH": "",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if options.gpu_memory_utilization is None:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(options.cache_gib)
    if options.can_sleep:
        # Opens more than /sleep; the port is on loopback and its key is ours alone.
        environment["VLLM_SERVER_DEV_MODE"] = "1"
    return environment
