"""Some documents written again as their table has them, under the version the index has."""

from dataclasses import replace

from llm_endpoint.embedding.protocol import Embedder
from pipelines.chunking import Chunker
from pipelines.engines import LocalEngine
from pipelines.errors import IndexBehind
from pipelines.parts import Work
from pipelines.setting_aside import SettingAside
from pipelines.sources.protocol import Snapshot
from pipelines.sync import set_aside
from pipelines.verify import Apply
from vector_index.held import joined
from vector_index.passages import SourceVersion, empty_delta
from vector_index.protocol import SyncedIndex


def applier(
    snapshot: Snapshot,
    index: SyncedIndex,
    embedder: Embedder,
    chunk: Chunker,
    *,
    under: SourceVersion,
    aside: SettingAside | None = None,
) -> Apply:
    """What `verify.repair` and `retry.retry` apply keys with.

    under: the version that the index is to be at, and stays at. The keys' rows must be the same
    in it and in the snapshot. aside: takes what cannot be indexed, as in a sync. The result
    raises IndexBehind where the index has moved on, IndexBusy where somebody else syncs, and
    what a sync raises.
    """

    def apply(write: frozenset[str], remove: frozenset[str]) -> None:
        with index.lease():
            base = index.version()
            if base.source != under:
                raise IndexBehind(
                    f"the index went from table version {under.version} to "
                    f"{base.source.version} meanwhile; verify it again"
                )
            hashes = {key: value for key, value in snapshot.hashes().items() if key in write}
            work = Work(
                snapshot, hashes, index.metadata_columns,
                LocalEngine(embedder, chunk), embedder.info.dim,
                known=None,  # no stored vector is used again: it may be what is wrong
                aside=aside,
            )  # fmt: skip
            empty = empty_delta(index.metadata_columns, embedder.info.dim)
            whole = joined([empty, *work.parts()])
            delta = replace(whole, removed=set_aside(work, remove))
            index.publish(delta, under, base=base)

    return apply
