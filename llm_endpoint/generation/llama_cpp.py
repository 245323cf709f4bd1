"""llama.cpp on this machine: a supervised child, spoken to over loopback HTTP."""

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from llm_endpoint.errors import (
    EngineAnswerInvalid,
    EngineDied,
    EngineTimeout,
    EngineUnavailable,
    WeightsMissing,
)
from llm_endpoint.generation.control_tokens import defused
from llm_endpoint.generation.gguf_tokenizer import load_gguf_tokenizer
from llm_endpoint.generation.openai import OpenAIGenerator
from llm_endpoint.generation.protocol import (
    Completion,
    CompletionDelta,
    GenerationRequest,
    GeneratorInfo,
)
from llm_endpoint.supervisor import ChildSpec, Endpoint, Launch, Supervisor

# Not imported from llama_child: that module imports the native library.
_API_KEY_VARIABLE = "HEADRACE_ENGINE_API_KEY"
_MAX_CONNECTIONS = 64
# Requests beyond the slots wait inside llama.cpp, each holding an HTTP thread; the health probe
# must still find a free one, or a busy engine would look like a hung one.
_SPARE_HTTP_THREADS = 8
# How long its threads spin for one another before they sleep (GNU OpenMP; its default is 300,000).
# Two threads on two idle cores write 125 to 148 tokens a second either way. Beside two other busy
# processes (an index sync): 0.7 a second at the default, 2 to 16 at 20,000 and 50,000, mostly 20
# to 59 at 10,000 and less (two runs each, noisy).
_SPIN_COUNT = "2000"
_POLL_S = 0.02
_COUNT_TIMEOUT_S = 30.0


class LlamaCppGenerator:
    """A GGUF model. Call start() once; requests wait for the child within their own timeout.

    When the child dies, answers in flight raise EngineDied and the next request waits for the
    restarted child. count_tokens is exact: the tokenizer inside the GGUF file, in this process
    where we know its kind, else the engine.
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
        self._info = GeneratorInfo(model, "llama.cpp", context_tokens, weights_sha256)
        self._supervisor = Supervisor(
            ChildSpec(
                name=model,
                argv=lambda launch: _argv(weights, self._info, parallel, threads, launch),
                log_file=log_file,
                api_key_variable=_API_KEY_VARIABLE,
                writes_address_file=True,
                environment=_environment(),
            )
        )
        self._client: tuple[Endpoint, OpenAIGenerator] | None = None
        # Asking the engine took 2.2 ms for 340 tokens (new connection, JSON), this takes 0.4.
        self._tokenizer = load_gguf_tokenizer(weights)

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._supervisor.pid

    @property
    def restarts(self) -> int:
        return self._supervisor.restarts

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the ready child listens, with its key; None while it is not ready."""
        return self._supervisor.endpoint

    def start(self) -> None:
        """Return at once; the child loads its weights in the background."""
        self._supervisor.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Raises EngineUnavailable, with the end of the engine's log, after `timeout_s`."""
        self._supervisor.wait_ready(timeout_s)

    def is_ready(self) -> bool:
        return self._supervisor.endpoint is not None

    async def generate(self, request: GenerationRequest) -> Completion:
        # Over a stream: llama.cpp notices a client that left only when it writes to it. Measured:
        # a cancelled stream frees its slot at once, a cancelled plain request runs to its end.
        async with contextlib.aclosing(self.stream(request)) as deltas:
            seen = [delta async for delta in deltas]
        text, last = "".join(delta.text for delta in seen), seen[-1]
        if last.finish_reason is None or last.usage is None:
            raise EngineAnswerInvalid(self._info.model, "the last event has no finish reason")
        return Completion(text, last.finish_reason, last.usage, self._info.model)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[CompletionDelta, None]:
        deadline = _now() + request.timeout_s
        has_begun = False
        while True:
            endpoint, client = await self._connect(deadline, request.timeout_s)
            try:
                async with contextlib.aclosing(client.stream(_until(request, deadline))) as deltas:
                    async for delta in deltas:
                        has_begun = True
                        yield delta
                return
            except EngineUnavailable:
                if has_begun:
                    raise
                await self._lost(endpoint, deadline)
            except EngineDied:
                self._supervisor.doubt(endpoint)
                raise
            except EngineTimeout as exc:
                raise EngineTimeout(self._info.model, request.timeout_s) from exc

    async def count_tokens(self, text: str) -> int:
        if self._tokenizer is not None:
            # The "fast" form does not track where in the text each token stands.
            return len(self._tokenizer.encode_batch_fast([defused(text)])[0].ids)
        return await self.count_tokens_in_engine(text)

    async def count_tokens_in_engine(self, text: str) -> int:
        """As count_tokens, by the child's own tokenizer; waits for the child to be ready."""
        deadline = _now() + _COUNT_TIMEOUT_S
        while True:
            endpoint, client = await self._connect(deadline, _COUNT_TIMEOUT_S)
            try:
                return await client.count_tokens(text)
            except (EngineUnavailable, EngineDied):
                # Counting changes nothing, so unlike an answer it can simply be asked again.
                await self._lost(endpoint, deadline)

    async def close(self) -> None:
        """Stop the child and wait until it is gone."""
        client, self._client = self._client, None
        if client is not None:
            await client[1].close()
        await asyncio.to_thread(self._supervisor.stop)

    async def _connect(self, deadline: float, timeout_s: float) -> tuple[Endpoint, OpenAIGenerator]:
        """A client of the ready child. Waits for it until `deadline`."""
        while (endpoint := self._supervisor.endpoint) is None:
            if _now() >= deadline or not self._supervisor.is_running:
                raise self._supervisor.unavailable(timeout_s)
            await asyncio.sleep(_POLL_S)
        if self._client is None or self._client[0].start != endpoint.start:
            # The old client's connections, if any, are to a dead process: nothing to close.
            self._client = endpoint, self._new_client(endpoint)
        return self._client

    async def _lost(self, endpoint: Endpoint, deadline: float) -> None:
        """The connection was not even accepted, so nothing was asked: it is safe to ask again."""
        self._supervisor.doubt(endpoint)
        if _now() < deadline:
            await asyncio.sleep(_POLL_S)

    def _new_client(self, endpoint: Endpoint) -> OpenAIGenerator:
        return OpenAIGenerator(
            f"{endpoint.address}/v1",
            self._info.model,
            api_key=endpoint.api_key,
            context_tokens=self._info.context_tokens,
            engine=self._info.engine,
            weights_sha256=self._info.weights_sha256,
            dialect="llama.cpp",
            max_connections=_MAX_CONNECTIONS,
        )


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


def _until(request: GenerationRequest, deadline: float) -> GenerationRequest:
    """The same request with what is left of its time."""
    return dataclasses.replace(request, timeout_s=max(0.0, deadline - _now()))


def _now() -> float:
    return asyncio.get_running_loop().time()
