"""The files under a URL of an object store: S3 and what speaks like it, GCS, Azure."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import obstore
import pyarrow as pa
from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import ObjectStore, from_url

from pipelines.errors import SourceUnreadable
from pipelines.sources.files import StoredFile, is_hidden

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config

# deltalake takes these among its storage options; obstore wants them apart.
_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url",
                   "timeout", "user_agent")  # fmt: skip
_READ_AHEAD_BYTES = 1 << 20
# obstore's own are 10 tries within three minutes: long enough to hide an outage from whoever asks.
_RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class ObjectFiles:
    """The object at a URL, or all under it. Tags are the store's own entity tags."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._store = _store(self._url, options)
        folder, _, self._name = self._url.rpartition("/")
        # Where the URL names one object, it is looked up in the folder above.
        self._above = None if folder.endswith("/") else _store(folder, options)
        self._is_single = False

    @property
    def url(self) -> str:
        return self._url

    def files(self) -> Iterator[StoredFile]:
        with _translated(self._url):
            self._is_single = False
            is_empty = True
            for page in obstore.list(self._store):
                is_empty = is_empty and not page
                yield from (_stored(m) for m in page if not _is_hidden_path(m["path"]))
            self._is_single = is_empty and self._above is not None
            if self._is_single and (single := self.look(self._name)) is not None:
                yield single

    def look(self, path: str) -> StoredFile | None:
        with _translated(self._url):
            try:
                return _stored(obstore.head(self._holder(), path))
            except FileNotFoundError:
                return None

    def open(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_Reader(self._url, self._holder(), path), mode="r")

    def has_folder(self, name: str) -> bool:
        """Whether anything is kept under that name below the URL."""
        with _translated(self._url):
            return any(page for page in obstore.list(self._store, name, chunk_size=1))

    def _holder(self) -> ObjectStore:
        return self._above if self._is_single and self._above is not None else self._store


class _Reader:
    """An object as a Python file whose errors are ours."""

    def __init__(self, url: str, store: ObjectStore, path: str) -> None:
        self._url = url
        with _translated(url):
            self._reader = obstore.open_reader(store, path, buffer_size=_READ_AHEAD_BYTES)
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        with _translated(self._url):
            return bytes(self._reader.read(None if size < 0 else size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def close(self) -> None:
        self._reader.close()
        self.closed = True


def store_reason(exc: Exception) -> str:
    """What the store said, in one line: its debug dump follows a blank line, and is left out."""
    return " ".join(str(exc).split("\n\n", 1)[0].split())[:400]


def _store(url: str, options: Mapping[str, str]) -> ObjectStore:
    named = {name.lower(): value for name, value in options.items()}
    client = {name: named.pop(spelling) for name in _CLIENT_OPTIONS
              for spelling in (name, f"aws_{name}") if spelling in named}  # fmt: skip
    settings = {name: value == "true" if value in ("true", "false") else value
                for name, value in client.items()}  # fmt: skip
    try:
        return from_url(
            url,
            config=cast("S3Config", named),
            client_options=cast("ClientConfig", settings),
            retry_config=_RETRIES,
        )
    except UnknownConfigurationKeyError as exc:
        raise SourceUnreadable(
            f"{url}: a storage option is not known: {store_reason(exc)}; the options are those of "
            f"deltalake, as aws_access_key_id or aws_endpoint_url"
        ) from exc
    except (BaseError, ValueError) as exc:
        raise SourceUnreadable(f"{url} cannot be opened: {store_reason(exc)}") from exc


def _stored(meta: "ObjectMeta") -> StoredFile:
    modified = meta["last_modified"]
    # A store without tags has only its times, which are whole seconds on some.
    tag = meta["e_tag"] or meta["version"] or modified.isoformat()
    return StoredFile(meta["path"], meta["size"], tag, modified)


def _is_hidden_path(path: str) -> bool:
    return any(is_hidden(part) for part in path.split("/"))


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, PermissionError) as exc:
        raise SourceUnreadable(f"{url} cannot be read: {store_reason(exc)}") from exc
