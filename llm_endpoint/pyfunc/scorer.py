"""One MLflow model behind the protocol of MLflow's scoring server, byte for byte."""

import asyncio
import contextlib
import math
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2

from llm_endpoint.connection import EngineConnection
from llm_endpoint.errors import EngineBusy, EngineDied, EngineTimeout, EngineUnavailable
from llm_endpoint.supervisor import ChildSpec, Endpoint, Launch, Supervisor

_API_KEY_VARIABLE = "HEADRACE_ENGINE_API_KEY"
_APP_FOLDER = Path(__file__).with_name("served")
_POLL_S = 0.02
_BUSY_RETRY_S = 1.0
# A model whose code holds the interpreter's lock answers no probe meanwhile.
_HANG_TIMEOUT_S = 300.0
# Nothing is to call home: neither MLflow nor what it brings.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@dataclass(frozen=True, slots=True)
class Scored:
    """What the scoring server answered, whatever its status."""

    status: int
    content_type: str | None
    body: bytes


class PyfuncScorer:
    """Call start() once; requests wait for the child within their own timeout.

    When the child dies, answers in flight raise EngineDied and the next request waits for the
    restarted child.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        log_file: Path,
        python: Path | None = None,
        environment: Mapping[str, str] | None = None,
        parallel: int = 4,
        queue: int = 64,
        timeout_s: float = 300.0,
        start_timeout_s: float = 300.0,
    ) -> None:
        """folder: of `check_model_folder`. python: the interpreter of the model's environment,
        None for ours. environment: further variables for the model's code. parallel: requests
        that the model works on at once; queue: those that may wait."""
        self._name = name
        self._timeout_s = timeout_s
        self._parallel = parallel
        self._queue = queue
        self._slots = asyncio.Semaphore(parallel)
        self._under_way = 0
        self._client: tuple[Endpoint, EngineConnection] | None = None
        self._supervisor = Supervisor(
            ChildSpec(
                name=name,
                argv=lambda launch: _argv(python, launch),
                log_file=log_file,
                api_key_variable=_API_KEY_VARIABLE,
                environment={
                    **(environment or {}),
                    **_QUIET,
                    "HEADRACE_PYFUNC_FOLDER": str(folder),
                    "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": str(math.ceil(timeout_s)),
                },
                health_path="/ping",
                start_timeout_s=start_timeout_s,
                hang_timeout_s=max(_HANG_TIMEOUT_S, timeout_s),
            )
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._supervisor.pid

    def start(self) -> None:
        """Return at once; the child loads its model in the background."""
        self._supervisor.start()

    def is_ready(self) -> bool:
        return self._supervisor.endpoint is not None

    async def invoke(self, body: bytes, content_type: str | None) -> Scored:
        """What `POST /invocations` answers. content_type: as the client sent it, None for none.

        Raises EngineBusy, EngineUnavailable, EngineDied, EngineTimeout.
        """
        async with self._slot():
            return await self._ask("POST", "/invocations", body, content_type)

    async def get(self, path: Literal["/ping", "/health", "/version"]) -> Scored:
        """What a GET of that path answers. Raises as `invoke`."""
        return await self._ask("GET", path, b"", None)

    async def close(self) -> None:
        """Stop the child and wait until it is gone."""
        client, self._client = self._client, None
        if client is not None:
            await client[1].close()
        await asyncio.to_thread(self._supervisor.stop)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None, None]:
        waiting = self._under_way - self._parallel
        if waiting >= self._queue:
            raise EngineBusy(self._name, waiting, _BUSY_RETRY_S)
        self._under_way += 1
        try:
            async with self._slots:
                yield
        finally:
            self._under_way -= 1

    async def _ask(self, method: str, path: str, body: bytes, content_type: str | None) -> Scored:
        deadline = _now() + self._timeout_s
        while True:
            endpoint, connection = await self._connect(deadline)
            try:
                async with asyncio.timeout_at(deadline):
                    with connection.translated_errors():
                        return await _send(connection, method, path, body, content_type)
            except TimeoutError as exc:
                raise EngineTimeout(self._name, self._timeout_s) from exc
            except EngineUnavailable:
                # The connection was not accepted, so nothing was asked: it is safe to ask again.
                self._supervisor.doubt(endpoint)
                await asyncio.sleep(_POLL_S)
            except EngineDied:
                self._supervisor.doubt(endpoint)
                raise

    async def _connect(self, deadline: float) -> tuple[Endpoint, EngineConnection]:
        while (endpoint := self._supervisor.endpoint) is None:
            if _now() >= deadline or not self._supervisor.is_running:
                raise self._supervisor.unavailable(self._timeout_s)
            await asyncio.sleep(_POLL_S)
        if self._client is None or self._client[0].start != endpoint.start:
            # The old client's connections, if any, are to a dead process: nothing to close.
            connection = EngineConnection(endpoint.address, self._name, api_key=endpoint.api_key)
            self._client = endpoint, connection
        return self._client


async def _send(
    connection: EngineConnection, method: str, path: str, body: bytes, content_type: str | None
) -> Scored:
    client = connection.client()
    request = client.build_request(method, f"{connection.base_url}{path}", content=body)
    # The client has a default; what was sent without a type is to be refused as MLflow does.
    if content_type is None:
        request.headers.pop("content-type", None)
    else:
        request.headers["content-type"] = content_type
    response: httpx2.Response = await client.send(request)
    return Scored(response.status_code, response.headers.get("content-type"), response.content)


def _argv(python: Path | None, launch: Launch) -> list[str]:
    # -I: the model's environment is complete in itself; PYTHONPATH may point at ours.
    program = [str(python or sys.executable), "-I", "-m", "uvicorn"]
    options = {
        "--app-dir": str(_APP_FOLDER),
        "--host": "127.0.0.1",
        "--port": str(launch.port),
        "--log-level": "warning",
    }
    return [*program, "headrace_scoring:app", *(part for pair in options.items() for part in pair)]


def _now() -> float:
    return asyncio.get_running_loop().time()
