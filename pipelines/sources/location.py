"""Where a table is: a path on this machine, or a URL with the options to reach it."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.sources.files import FileStore, LocalFiles
from pipelines.sources.objects import ObjectFiles


def open_files(location: str, options: Mapping[str, str]) -> FileStore:
    """The files at a path or URL. options: as deltalake's storage_options, for a URL.

    Raises TableNotFound where there is no such path, SourceUnreadable for wrong options.
    """
    parts = urlsplit(location)
    if parts.scheme == "file":
        return LocalFiles(Path(unquote(parts.path)))
    if "://" in location:
        return ObjectFiles(location, options)
    return LocalFiles(Path(location))
