"""llama.cpp on this machine: a supervised child, spoken to over loopback HTTP."""

import os
import sys
from pathlib import Path

from llm_endpoint.errors import WeightsMissing
from llm_endpoint.generation.control_tokens import defused
from llm_endpoint.generation.gguf import read_gguf
from llm_endpoint.generation.gguf_tokenizer import load_gguf_tokenizer
from llm_endpoint.generation.protocol import GeneratorInfo
from llm_endpoint.generation.supervised import SupervisedGenerator
from llm_endpoint.supervisor import ChildSpec, Launch

# Not imported from llama_child: that module imports the native library.
_API_KEY_VARIABLE = "HEADRACE_ENGINE_API_KEY"
_MAX_CONNECTIONS = 64
_TEMPLATE = "tokenizer.chat_template"
# Requests beyond the slots wait inside llama.cpp, each holding an HTTP thread; the health probe
# must still find a free one, or a busy engine would look like a hung one.
_SPARE_HTTP_THREADS = 8
# How long its threads spin for one another before they sleep (GNU OpenMP; its default is 300,000).
# Two threads on two idle cores write 125 to 148 tokens a second either way. Beside two other busy
# processes (an index sync): 0.7 a second at the default, 2 to 16 at 20,000 and 50,000, mostly 20
# to 59 at 10,000 and less (two runs each, noisy).
_SPIN_COUNT = "2000"


class LlamaCppGenerator(SupervisedGenerator):
    """A GGUF model. Call start() once; requests wait for the child within their own timeout.

    count_tokens is exact: the tokenizer inside the GGUF file, in this process where we know its
    kind, else the engine.
    """

    def __init__(
        self,
        weights: Path,
        *,
        model: str,
        weights_sha256: str,
        context_tokens: int = 2048,
        parallel: int = 2,
        threads: int = 2,
        log_file: Path,
    ) -> None:
        if not weights.is_file():
            raise WeightsMissing(weights)
        takes_tools = "tools" in str(read_gguf(weights, (_TEMPLATE,)).get(_TEMPLATE))
        info = GeneratorInfo(model, "llama.cpp", context_tokens, weights_sha256, takes_tools)
        spec = ChildSpec(
            name=model,
            argv=lambda launch: _argv(weights, info, parallel, threads, launch),
            log_file=log_file,
            api_key_variable=_API_KEY_VARIABLE,
            writes_address_file=True,
            environment=_environment(),
        )
        super().__init__(spec, info, dialect="llama.cpp", max_connections=_MAX_CONNECTIONS)
        # Asking the engine took 2.2 ms for 340 tokens (new connection, JSON), this takes 0.4.
        self._tokenizer = load_gguf_tokenizer(weights)

    async def count_tokens(self, text: str) -> int:
        if self._tokenizer is not None:
            # The "fast" form does not track where in the text each token stands.
            return len(self._tokenizer.encode_batch_fast([defused(text)])[0].ids)
        return await self.count_tokens_in_engine(text)

    async def count_tokens_in_engine(self, text: str) -> int:
        """As count_tokens, by the child's own tokenizer; waits for the child to be ready."""
        return await super().count_tokens(text)


def _argv(
    weights: Path, info: GeneratorInfo, parallel: int, threads: int, launch: Launch
) -> list[str]:
    options = {
        "--weights": weights.resolve(),
        "--model": info.model,
        "--context-tokens": info.context_tokens,
        "--parallel": parallel,
        "--threads": threads,
        "--http-threads": _MAX_CONNECTIONS + _SPARE_HTTP_THREADS,
        "--address-file": launch.address_file,
    }
    program = [sys.executable, "-m", "llm_endpoint.generation.llama_child"]
    return program + [str(part) for option in options.items() for part in option]


def _environment() -> dict[str, str]:
    # The child must find this package, from whatever folder the server was started.
    import_root = str(Path(__file__).resolve().parents[2])
    python_path = os.pathsep.join(filter(None, [import_root, os.environ.get("PYTHONPATH")]))
    spin_count = os.environ.get("GOMP_SPINCOUNT", _SPIN_COUNT)
    return {"PYTHONPATH": python_path, "GOMP_SPINCOUNT": spin_count}
