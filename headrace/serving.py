"""A running server: models loaded, indexes followed, HTTP on top."""

import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

from gateway import Backend, create_app
from headrace import assembly
from headrace.settings import Settings
from pipelines.delta_source import DeltaSource
from pipelines.errors import PipelineError
from rag_chain.chain import Chain
from vector_index.errors import VectorIndexError
from vector_index.local import LocalIndex
from vector_index.passages import Lag

# A published generation must be served within 2 s; opening one takes most of the rest.
_POLL_S = 0.5
_log = logging.getLogger(__name__)


class FollowedIndex:
    """Keeps an index at its newest generation and knows how far it is behind its table."""

    def __init__(self, index: LocalIndex, source: DeltaSource) -> None:
        self.index = index
        self.lag: Lag | None = None
        self._source = source
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-index", daemon=True)

    def start(self) -> None:
        """Follows until stop()."""
        self._thread.start()

    def stop(self) -> None:
        """Ends following and waits for it."""
        self._stopping.set()
        self._thread.join()

    def problem(self) -> str | None:
        """Why the index cannot be searched, or None."""
        try:
            self.index.version()
        except VectorIndexError as exc:
            return str(exc)
        return None

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.index.refresh()
                if self.problem() is None:
                    self.lag = self._source.lag(self.index.version().source)
                self._complaint = ""
            except (VectorIndexError, PipelineError) as exc:
                # The generation in hand keeps serving; said once, not twice a second.
                self.lag = None
                if str(exc) != self._complaint:
                    self._complaint = str(exc)
                    _log.warning("cannot follow index: %s", exc)
            self._stopping.wait(_POLL_S)


def build_app(settings: Settings) -> FastAPI:
    """The application of `headrace serve`; its lifespan starts and stops what it needs."""
    embedder = assembly.build_embedder(settings)
    generator = assembly.build_generator(settings)
    features = assembly.build_features(settings)
    followed = {
        name: FollowedIndex(
            assembly.build_index(settings, name, embedder), assembly.build_source(settings, name)
        )
        for name in settings.indexes
    }
    # The encoder runs on its own threads: more than two callers at once only wait for it.
    executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="retrieve")

    def chain(name: str) -> Chain:
        follower = followed[name]
        return assembly.build_chain(
            settings,
            follower.index,
            embedder,
            generator,
            features=features,
            lag=lambda: follower.lag,
            executor=executor,
        )

    def problems() -> Mapping[str, str]:
        found = {f"index {name}": follower.problem() for name, follower in followed.items()}
        if not generator.is_ready():
            found[f"model {generator.info.model}"] = "not running yet"
        return {part: problem for part, problem in found.items() if problem is not None}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        generator.start()
        for follower in followed.values():
            follower.start()
        try:
            yield
        finally:
            for follower in followed.values():
                follower.stop()
            await generator.close()
            if features is not None:
                features.close()
            executor.shutdown(wait=False, cancel_futures=True)

    backend = Backend(
        chains={name: chain(name) for name in followed},
        access=assembly.access_of(settings),
        problems=problems,
    )
    return create_app(backend, max_body_bytes=settings.gateway.max_body_bytes, lifespan=lifespan)
