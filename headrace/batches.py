"""The batches of a server: where they are kept, and how many requests they ask at once."""

from gateway.openai.batch import BatchStore
from gateway.openai.batch_runner import BatchRunner
from gateway.openai.batch_work import BulkModels
from gateway.openai.file_store import FileStore
from gateway.openai.models import ServedModels
from gateway.traffic import Traffic
from headrace.settings import Settings


def build_batches(settings: Settings, models: ServedModels, traffic: Traffic) -> BatchRunner:
    """What runs the batches of /v1/batches, below `state_dir`; nothing is read yet."""
    return BatchRunner(
        FileStore(settings.state_dir / "files"),
        BatchStore(settings.state_dir / "batches"),
        BulkModels(models, traffic, concurrency=settings.gateway.batch_concurrency),
        max_line_bytes=settings.gateway.max_body_bytes,
    )
