"""`python -m llm_endpoint.generation.llama_child`: llama.cpp behind OpenAI HTTP on 127.0.0.1.

Runs as a supervised child only: native code that crashes takes this process down, not the server.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

import xllamacpp

API_KEY_VARIABLE = "HEADRACE_ENGINE_API_KEY"
# llama.cpp keeps old prompts' states in memory to reuse their prefixes; its default is 8 GiB.
_PROMPT_CACHE_MIB = 512
_LOG_ERRORS_AND_WARNINGS = 2


def main() -> int:
    options = _parser().parse_args()
    api_key = os.environ.pop(API_KEY_VARIABLE, "")
    if not api_key:
        sys.stderr.write(
            f"{API_KEY_VARIABLE} is not set; this program is started by llm_endpoint\n"
        )
        return 2
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = xllamacpp.Server(_parameters(options, api_key))
    _write_atomically(options.address_file, server.listening_address)
    while not stop.wait(1.0):
        pass
    # Not through the native destructors: they wait for requests in flight.
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--context-tokens", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--http-threads", type=int, required=True)
    parser.add_argument("--address-file", type=Path, required=True)
    return parser


def _parameters(options: argparse.Namespace, api_key: str) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(options.weights)
    parameters.model_alias = {options.model}
    # llama.cpp divides n_ctx among its slots; what we promise is per request.
    parameters.n_ctx = options.context_tokens * options.parallel
    parameters.n_parallel = options.parallel
    # Short memory must be an error at the start, not a smaller context than promised.
    parameters.fit_params = False
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [api_key]
    parameters.n_threads_http = options.http_threads
    # A cancelled prompt is dropped between batches, and other slots write between them. The default
    # of 2048 took 9 s a batch here; 256 takes 1 s at the same tokens a second.
    parameters.n_batch = 256
    parameters.cache_ram_mib = _PROMPT_CACHE_MIB
    parameters.endpoint_metrics = True
    parameters.ui = False
    parameters.verbosity = _LOG_ERRORS_AND_WARNINGS
    return parameters


def _write_atomically(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(text, encoding="ascii")
    part.replace(file)


if __name__ == "__main__":
    sys.exit(main())
