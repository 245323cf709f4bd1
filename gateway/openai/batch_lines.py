"""The lines of a batch: requests in, answers out."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

import orjson

from gateway.openai.batch import LineError

MAX_LINES = 50_000
_ID_CHARACTERS = 512
_SHOWN_ERRORS = 100
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class LineRequest:
    custom_id: str
    body: Mapping[str, object]


def validate(file: Path, endpoint: str, max_line_bytes: int) -> tuple[int, tuple[LineError, ...]]:
    """How many requests the file has, and what is wrong with it, the first hundred lines of it."""
    seen: dict[str, int] = {}
    errors: list[LineError] = []
    for number, line in _lines(file, max_line_bytes):
        error = _check(line, number, endpoint, max_line_bytes, seen)
        if error is not None:
            errors.append(error)
        if len(errors) == _SHOWN_ERRORS:
            break
        if number > MAX_LINES:
            errors.append(
                LineError("too_many_lines", f"the file has more than {MAX_LINES} lines", number)
            )
            break
    if not seen and not errors:
        errors.append(LineError("empty_file", "the file has no requests", None))
    return len(seen), tuple(errors)


def read_requests(file: Path) -> Iterator[LineRequest]:
    """The requests of a file that `validate` has found right, in its order."""
    with file.open("rb") as lines:
        for line in lines:
            if line.strip():
                form = orjson.loads(line)
                yield LineRequest(form["custom_id"], form["body"])


def answered(custom_id: str, status: int, body: bytes) -> bytes:
    """The line of a request that was asked."""
    identity = token_hex(12)
    response = {
        "status_code": status,
        "request_id": f"req_{identity}",
        "body": orjson.Fragment(body),
    }
    return _line(f"batch_req_{identity}", custom_id, response, None)


def left_out(custom_id: str, code: str, message: str) -> bytes:
    """The line of a request that was not asked any more."""
    return _line(f"batch_req_{token_hex(12)}", custom_id, None, {"code": code, "message": message})


class Journal:
    """Lines of answers, appended; killed in the middle of one, that one was not answered."""

    def __init__(self, file: Path) -> None:
        self.path = file
        self.custom_ids: set[str] = set()
        end = self._read() if file.is_file() else 0
        self._file: BinaryIO = file.open("ab")
        self._file.truncate(end)

    def append(self, custom_id: str, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        self.custom_ids.add(custom_id)

    def close(self) -> None:
        """What was appended is on the disk when this returns."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Where the last whole line ends."""
        end = 0
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                try:
                    form = orjson.loads(line)
                except orjson.JSONDecodeError:
                    break
                self.custom_ids.add(form["custom_id"])
                end += len(line)
        return end


def _lines(file: Path, most: int) -> Iterator[tuple[int, bytes]]:
    """Numbered from 1, without empty ones; of one that is too long, only its beginning."""
    with file.open("rb") as opened:
        number = 0
        while line := opened.readline(most + 1):
            number += 1
            rest = line
            while not rest.endswith(b"\n") and (rest := opened.readline(most + 1)):
                pass
            if line.strip():
                yield number, line


def _check(
    line: bytes, number: int, endpoint: str, most: int, seen: dict[str, int]
) -> LineError | None:
    if len(line) > most:
        return LineError("line_too_long", f"the line is longer than {most} bytes", number)
    try:
        form = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        return LineError("invalid_json_line", f"the line is not JSON: {exc}", number)
    if not isinstance(form, dict):
        return LineError("invalid_json_line", "the line is no JSON object", number)
    custom_id = form.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _ID_CHARACTERS:
        message = f"must be a text of 1 to {_ID_CHARACTERS} characters, got {_shown(custom_id)}"
        return LineError("invalid_custom_id", f"custom_id {message}", number, "custom_id")
    if custom_id in seen:
        message = f"custom_id {custom_id!r} stands in line {seen[custom_id]} already"
        return LineError("duplicate_custom_id", message, number, "custom_id")
    seen[custom_id] = number
    if form.get("method") != "POST":
        message = f"method must be 'POST', got {_shown(form.get('method'))}"
        return LineError("invalid_method", message, number, "method")
    if form.get("url") != endpoint:
        message = f"url must be the batch's endpoint {endpoint}, got {_shown(form.get('url'))}"
        return LineError("mismatched_url", message, number, "url")
    if not isinstance(form.get("body"), dict):
        return LineError("invalid_body", "body must be a JSON object", number, "body")
    return None


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN_CHARACTERS]


def _line(identity: str, custom_id: str, response: object, error: object) -> bytes:
    form = {"id": identity, "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(form) + b"\n"
