"""A multipart upload, straight into a file: nothing but a chunk of it is in memory."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from gateway.openai.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_FIELD_BYTES = 4096
_FILE = "file"


@dataclass(slots=True)
class Upload:
    """What came beside the file's bytes. filename: None where there was no file."""

    filename: str | None = None
    fields: dict[str, str] = field(default_factory=dict)


async def receive_upload(request: Request, content: BinaryIO) -> Upload:
    """Writes the part `file` to `content`. Raises InvalidRequest for what is no such form."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise InvalidRequest("body", "must be multipart/form-data with the parts file and purpose")
    parts = _Parts()
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            if parts.ready:
                ready, parts.ready = b"".join(parts.ready), []
                await asyncio.to_thread(content.write, ready)
        parser.finalize()
    except FormParserError as exc:
        raise InvalidRequest("body", f"is no complete multipart form: {exc}") from exc
    if not parts.is_ended:
        raise InvalidRequest("body", "is no complete multipart form: its last boundary is missing")
    return parts.upload


class _Parts:
    """Parts as the parser finds them; the file's bytes wait in `ready` to be written."""

    def __init__(self) -> None:
        self.upload = Upload()
        self.ready: list[bytes] = []
        self.is_ended = False
        self._header = (b"", b"")
        self._name = ""
        self._is_file = False
        self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_to_name,
            "on_header_value": self._add_to_header,
            "on_header_end": self._end_header,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._name, self._value, self._is_file = "", b"", False

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], self._header[1])

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _end_header(self) -> None:
        (name, value), self._header = self._header, (b"", b"")
        if name.lower() != b"content-disposition":
            return
        _, options = parse_options_header(value)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name != _FILE:
            return
        if self.upload.filename is not None:
            raise InvalidRequest(_FILE, "is there more than once; send one file a request")
        self._is_file = True
        self.upload.filename = options.get(b"filename", b"file").decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.ready.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _FIELD_BYTES:
            raise InvalidRequest(self._name, f"is longer than {_FIELD_BYTES} bytes")

    def _end(self) -> None:
        if not self._is_file:
            self.upload.fields[self._name] = self._value.decode("utf-8", "replace")

    def _finish(self) -> None:
        self.is_ended = True
