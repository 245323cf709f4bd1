"""An engine that goes wrong on order: OpenAI's protocol over HTTP, its fault switched as it runs.

For tests and rehearsals of what clients see when an engine fails, through the engine `openai`:

    python -m llm_endpoint.generation.faulty
    {"engine": "http://127.0.0.1:40001/v1", "control": "http://127.0.0.1:40002"}
    curl http://127.0.0.1:40002 -d '{"mode": "hang"}'

It writes "word " as often as max_tokens says. A GET of the control address tells what it is doing,
how many requests it works on now, and how many it finished or saw abandoned by their clients.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args

import orjson

from llm_endpoint.generation.joining import join_events

Mode = Literal[
    "ok", "refuse", "reject", "busy", "fail", "hang", "slow", "stall", "die", "garbage"
]  # fmt: skip
"""refuse: no connection is taken. reject: 400. busy: 429, Retry-After 7. fail: 500. hang: not a
byte. slow: the first byte after `slow_s`. stall: half an answer, then nothing. die: half an answer,
then the connection is cut. garbage: bytes that are neither JSON nor events."""

_STATUS: Mapping[Mode, tuple[int, str]] = {
    "reject": (400, "the request is refused, as ordered"),
    "busy": (429, "too many requests, as ordered"),
    "fail": (500, "failed, as ordered"),
}
_GARBAGE = b"<html>\x00\xff this is not the engine you look for"
_DEFAULT_WORDS = 16
_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """word_s: seconds before each word. slow_s: before the first byte in mode `slow`."""

    mode: Mode = "ok"
    word_s: float = 0.0
    slow_s: float = 1.0


class FaultyEngine:
    """start(), then change `behaviour` at will through `behave`; close() ends what is open."""

    def __init__(self) -> None:
        self._behaviour = Behaviour()
        self._listening: asyncio.Server | None = None
        self._port = 0
        self._working: set[asyncio.Task[None]] = set()
        self._finished = self._abandoned = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def start(self, port: int = 0) -> None:
        """Listens on 127.0.0.1; 0 is any free port."""
        self._listening = await asyncio.start_server(self._tracked, "127.0.0.1", port)
        self._port = self._listening.sockets[0].getsockname()[1]

    async def behave(self, behaviour: Behaviour) -> None:
        """From the next request on. Requests under way go on as they began."""
        self._behaviour = behaviour
        if behaviour.mode == "refuse":
            self._stop_listening()
        elif self._listening is None:
            await self.start(self._port)

    def state(self) -> dict[str, object]:
        """What it does and has done; see the module."""
        counts = {"open": len(self._working), "finished": self._finished}
        return {**asdict(self._behaviour), **counts, "abandoned": self._abandoned}

    async def close(self) -> None:
        self._stop_listening()
        working = list(self._working)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.close()
        self._listening = None

    async def _tracked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._working.add(task)
        try:
            await _closing(self._serve)(reader, writer)
        finally:
            self._working.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await _read_request(reader)
        answering = asyncio.ensure_future(self._answer(orjson.loads(body), writer))
        # Nothing follows a request: what comes next is the client's leaving.
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if answering.done() and answering.exception() is None:
                self._finished += 1
            else:
                self._abandoned += 1
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _answer(self, asked: Mapping[str, object], writer: asyncio.StreamWriter) -> None:
        doing = self._behaviour
        if doing.mode in _STATUS:
            status, message = _STATUS[doing.mode]
            return await _send(writer, status, orjson.dumps({"error": {"message": message}}))
        if doing.mode == "garbage":
            return await _send(writer, 200, _GARBAGE)
        if doing.mode == "hang":
            await asyncio.Event().wait()
        if doing.mode == "slow":
            await asyncio.sleep(doing.slow_s)
        await (self._stream if asked.get("stream") else self._whole)(asked, doing, writer)

    async def _stream(
        self, asked: Mapping[str, object], doing: Behaviour, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        writer.write(b"Connection: close\r\n\r\n")
        words = _words(asked)
        async for number, event in _events(asked, doing):
            if number == words // 2 and doing.mode in ("stall", "die"):
                return await _break(doing.mode, writer)
            writer.write(b"data: " + orjson.dumps(event) + b"\n\n")
            await writer.drain()
        writer.write(b"data: [DONE]\n\n")

    async def _whole(
        self, asked: Mapping[str, object], doing: Behaviour, writer: asyncio.StreamWriter
    ) -> None:
        body = orjson.dumps(join_events([event async for _, event in _events(asked, doing)]))
        if doing.mode in ("stall", "die"):
            writer.write(_head(200, len(body)) + body[: len(body) // 2])
            return await _break(doing.mode, writer)
        await _send(writer, 200, body)


async def serve_control(engine: FaultyEngine, port: int = 0) -> asyncio.Server:
    """A second address, which answers whatever the fault: POST a Behaviour, GET the state."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, body = await _read_request(reader)
        try:
            if method == "POST":
                await engine.behave(_read_behaviour(engine.state(), body))
        except ValueError as exc:
            return await _send(writer, 400, orjson.dumps({"error": str(exc)}))
        await _send(writer, 200, orjson.dumps(engine.state()))

    return await asyncio.start_server(_closing(handle), "127.0.0.1", port)


def _read_behaviour(now: Mapping[str, object], body: bytes) -> Behaviour:
    names = [field.name for field in fields(Behaviour)]
    given = orjson.loads(body)
    unknown = sorted(set(given) - set(names))
    if unknown or given.get("mode", "ok") not in get_args(Mode):
        modes = ", ".join(get_args(Mode))
        raise ValueError(f"got {given}; fields: {', '.join(names)}; modes: {modes}")
    return replace(Behaviour(**{name: now[name] for name in names}), **given)  # type: ignore[arg-type]


def _words(asked: Mapping[str, object]) -> int:
    most = asked.get("max_tokens")
    return most if isinstance(most, int) else _DEFAULT_WORDS


async def _events(
    asked: Mapping[str, object], doing: Behaviour
) -> AsyncGenerator[tuple[int, dict[str, object]], None]:
    """The events of an answer, numbered."""
    is_chat = "messages" in asked
    kind = "chat.completion.chunk" if is_chat else "text_completion"
    head = {"id": "faulty-1", "object": kind, "created": 0, "model": asked.get("model")}
    words = _words(asked)
    for number in range(words):
        await asyncio.sleep(doing.word_s)
        yield number, {**head, "choices": [_choice(is_chat, "word ", None)]}
    yield words, {**head, "choices": [_choice(is_chat, "", "length")]}
    usage = {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}
    yield words + 1, {**head, "choices": [], "usage": usage}


def _choice(is_chat: bool, text: str, reason: str | None) -> dict[str, object]:
    piece: dict[str, object] = {"delta": {"content": text}} if is_chat else {"text": text}
    return {"index": 0, **piece, "finish_reason": reason}


async def _break(mode: Mode, writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    if mode == "stall":
        await asyncio.Event().wait()
    # A reset, as from a process that was killed.
    writer.transport.abort()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The method and the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, *_ = head.split(" ", 1)
    lengths = [line for line in head.split("\r\n") if line.lower().startswith("content-length:")]
    size = int(lengths[0].split(":")[1]) if lengths else 0
    return method, await reader.readexactly(size)


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    writer.write(_head(status, len(body)) + body)
    await writer.drain()


def _head(status: int, size_bytes: int) -> bytes:
    retry = "Retry-After: 7\r\n" if status == 429 else ""
    return (
        f"HTTP/1.1 {status} Ordered\r\nContent-Type: application/json\r\n{retry}"
        f"Content-Length: {size_bytes}\r\nConnection: close\r\n\r\n"
    ).encode()


def _closing(serve: _Serve) -> _Serve:
    """`serve`, and the end of its connection, however it was left."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.close()

    return served


async def _run(port: int, control_port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    engine = FaultyEngine()
    await engine.start(port)
    control = await serve_control(engine, control_port)
    own_port = control.sockets[0].getsockname()[1]
    addresses = {"engine": engine.base_url, "control": f"http://127.0.0.1:{own_port}"}
    sys.stdout.write(orjson.dumps(addresses).decode() + "\n")
    sys.stdout.flush()
    await stopped.wait()
    control.close()
    await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0, help="of the engine; 0: any")
    parser.add_argument("--control-port", type=int, default=0, help="0: any")
    options = parser.parse_args()
    asyncio.run(_run(options.port, options.control_port))


if __name__ == "__main__":
    main()
