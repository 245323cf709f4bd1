"""Taking what was deleted off the disk, where it otherwise stays until merges get to it."""

from pathlib import Path

from vector_index.errors import WriteFailed
from vector_index.lock import SyncLock
from vector_index.manifest import Manifest
from vector_index.options import WriterOptions
from vector_index.publish import prune
from vector_index.staging import forget_staged
from vector_index.writer import IndexWriter


def purge(home: Path, *, options: WriterOptions | None = None) -> Manifest:
    """Leaves what is live on the disk and nothing else: one generation without dead documents.

    All segments and the full text are written anew where a deleted document is in them. There is
    no way back to an older generation afterwards. Processes that still search one keep its files,
    without a name, until they follow. Raises IndexNotFound, IndexBusy, WriteFailed.
    """
    with SyncLock(home, home.name), IndexWriter(home, None, options=options) as writer:
        forget_staged(home)
        writer.merge_now()
        live = writer.generation().manifest
        try:
            prune(home, live=live, kept=0)
        except OSError as exc:
            raise WriteFailed(
                f"older generations of index {home.name!r} could not be removed: {exc}; what was "
                f"deleted is still in them"
            ) from exc
    if left := [folder.name for folder in (home / "generations").iterdir()
                if folder.name != live.generation]:  # fmt: skip
        raise WriteFailed(f"{', '.join(left)} of index {home.name!r} could not be removed")
    return live
