"""The writer's log: a change is in it, on the disk, before anyone is told that it happened.

A file is MAGIC and then records. A record is the payload's length and CRC-32 (two little-endian
uint32) and the payload:

    uint32 header length | header, JSON | vectors, float32 | passages, an Arrow IPC stream

The header holds the sequence number, the table version, the ids removed and the documents
(id and hash); vectors and passages are there only where there are documents.

A record that the end of the file cuts short was never acknowledged: it is dropped, and a log
line says so. A damaged record with others after it was acknowledged: that is IndexCorrupt.
"""

import json
import logging
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vector_index import disk
from vector_index.errors import IndexCorrupt, WriteFailed, WriterClosed
from vector_index.passages import DOCUMENT_SCHEMA, IndexDelta, SourceVersion, passage_schema

_log = logging.getLogger(__name__)

MAGIC = b"HEADRACE-WAL-1\n"
_FRAME = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_HEADER = b'{"sequence":'


@dataclass(frozen=True, slots=True)
class Change:
    """One logged change. source: the table state it led to, None where it is unchanged."""

    sequence: int
    delta: IndexDelta
    source: SourceVersion | None


def touched(delta: IndexDelta) -> list[str]:
    """The ids of all documents that the change adds, replaces or removes."""
    if not delta.documents.num_rows:
        return list(delta.removed)
    return [*delta.removed, *delta.documents["document_id"].to_pylist()]


class Log:
    """An open log file: records are appended, never changed.

    is_synced: whether an append returns only once the record is on the disk. Without it a
    crash of the machine, though not one of the process, may lose the latest changes.
    """

    def __init__(self, path: Path, *, is_synced: bool) -> None:
        self.path = path
        self._is_synced = is_synced
        self._file = disk.append_file(path)
        self._is_sound = True
        try:
            size = disk.size_of(self._file)
            if size < len(MAGIC):
                if size:  # an earlier try to begin it failed
                    disk.cut(self._file, 0)
                self._append([MAGIC])
                disk.sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    @property
    def is_sound(self) -> bool:
        """Whether it ends with a whole record. One that does not takes no more."""
        return self._is_sound

    def append(self, change: Change) -> None:
        """Returns once the change is logged. Raises WriteFailed, and then it is not logged."""
        if not self._is_sound:
            raise WriterClosed(f"{self.path.name} could not be repaired; reopen the index")
        payload = _encode(change)
        length = sum(len(piece) for piece in payload)
        crc = 0
        for piece in payload:
            crc = zlib.crc32(piece, crc)
        self._append([_FRAME.pack(length, crc), *payload])

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _append(self, pieces: list[bytes | memoryview]) -> None:
        before = disk.size_of(self._file)
        try:
            disk.append(self._file, pieces)
            if self._is_synced:
                disk.sync_data(self._file)
        except OSError as exc:
            self._undo(before)
            raise WriteFailed(
                f"{self.path.name}: {exc}; the change was not taken, make room and try again"
            ) from exc

    def _undo(self, size: int) -> None:
        """Cuts a half-written record off, or a later one would stand behind damage."""
        try:
            disk.cut(self._file, size)
        except OSError:
            self._is_sound = False


def read_log(path: Path, metadata: Mapping[str, Any]) -> Iterator[Change]:
    """The changes of a log file, oldest first. A record cut short ends it, and is cut off.

    Raises IndexCorrupt when a record is damaged that others follow.
    """
    content = path.read_bytes()
    at = len(MAGIC)
    if not content.startswith(MAGIC) and len(content) >= at:
        raise IndexCorrupt(f"{path.name} is not a log of this version")
    while at < len(content):
        payload = _payload(content, at)
        if payload is None:
            _drop(path, content, at)
            return
        at += _FRAME.size + len(payload)
        yield _decode(payload, metadata)
    if 0 < len(content) < len(MAGIC):
        _drop(path, content, 0)


def _payload(content: bytes, at: int) -> memoryview | None:
    if at + _FRAME.size > len(content):
        return None
    length, crc = _FRAME.unpack_from(content, at)
    payload = memoryview(content)[at + _FRAME.size : at + _FRAME.size + length]
    return payload if len(payload) == length and zlib.crc32(payload) == crc and length else None


def _drop(path: Path, content: bytes, at: int) -> None:
    rest = content[at:]
    length = _FRAME.unpack_from(rest)[0] if len(rest) >= _FRAME.size else len(rest)
    reaches_the_end = _FRAME.size + length >= len(rest)
    if (not reaches_the_end and any(rest)) or _is_followed(content, at):
        raise IndexCorrupt(
            f"{path.name}: the record at byte {at} is damaged and others follow it; the changes "
            f"from there on are lost: move the file away to open the index without them"
        )
    _log.warning("torn_record_dropped file=%s byte=%d size_bytes=%d", path.name, at, len(rest))
    disk.cut_file(path, at)


def _is_followed(content: bytes, at: int) -> bool:
    """Whether a whole record stands after the one at this byte, whose length may be damaged."""
    while (at := content.find(_HEADER, at + 1)) >= 0:
        if _payload(content, at - _LENGTH.size - _FRAME.size) is not None:
            return True
    return False


def _encode(change: Change) -> list[bytes | memoryview]:
    delta = change.delta
    documents: list[list[str]] = [[], []]
    if delta.documents.num_rows:
        documents = [column.to_pylist() for column in delta.documents.columns]
    header = {
        "sequence": change.sequence,
        "source": _source_to_json(change.source),
        "removed": sorted(delta.removed),
        "documents": documents,
        "vectors": delta.vectors.shape,
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    pieces: list[bytes | memoryview] = [_LENGTH.pack(len(text)), text]
    if delta.documents.num_rows:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, delta.passages.schema) as stream:
            stream.write_table(delta.passages)
        vectors = np.ascontiguousarray(delta.vectors, "<f4")
        pieces += [vectors.tobytes(), memoryview(sink.getvalue())]
    return pieces


def _decode(payload: memoryview, metadata: Mapping[str, Any]) -> Change:
    (length,) = _LENGTH.unpack_from(payload)
    first = _LENGTH.size + length
    header = json.loads(bytes(payload[_LENGTH.size : first]))
    rows, dim = header["vectors"]
    vectors = np.frombuffer(payload, "<f4", rows * dim, first).reshape(rows, dim)
    schema = passage_schema(metadata)
    passages = schema.empty_table()
    if header["documents"][0]:
        buffer = pa.py_buffer(payload[first + vectors.nbytes :])
        passages = pa.ipc.open_stream(buffer).read_all().cast(schema)
    documents = [pa.array(column, pa.string()) for column in header["documents"]]
    return Change(
        sequence=header["sequence"],
        delta=IndexDelta(
            documents=pa.table(documents, schema=DOCUMENT_SCHEMA),
            passages=passages,
            vectors=vectors,
            removed=frozenset(header["removed"]),
        ),
        source=_source_from_json(header["source"]),
    )


def _source_to_json(source: SourceVersion | None) -> list[object] | None:
    if source is None:
        return None
    committed_at = source.committed_at.isoformat()
    return [source.table_id, source.version, source.schema_fingerprint, committed_at]


def _source_from_json(form: list[Any] | None) -> SourceVersion | None:
    if form is None:
        return None
    table_id, version, fingerprint, committed_at = form
    return SourceVersion(table_id, version, fingerprint, datetime.fromisoformat(committed_at))
