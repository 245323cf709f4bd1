"""What is wrong with a request in OpenAI's words; the table in gateway/errors.py has its status."""

from collections.abc import Mapping


class InvalidRequest(Exception):
    """A field has a value that cannot be taken; `field` is its path in the body."""

    def __init__(self, field: str, message: str, *, code: str = "invalid_value") -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.code = code


class Unsupported(InvalidRequest):
    """A field that would change the answer and cannot be honoured: not ignored in silence."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message, code="unsupported_parameter")


class ModelNotFound(Exception):
    """No model of that name does that; the message lists those that do."""

    def __init__(self, name: str, tasks: Mapping[str, str], wanted: str | None = None) -> None:
        able = sorted(known for known, task in tasks.items() if wanted in (None, task))
        what = f"{wanted} model" if wanted else "model"
        has = f"; {name!r} is a model of task {tasks[name]}" if name in tasks else ""
        super().__init__(
            f"there is no {what} {name!r}; this server has: {', '.join(able) or 'none'}{has}"
        )
        self.field = "model"


class FileUnknown(Exception):
    def __init__(self, file_id: str) -> None:
        super().__init__(f"there is no file {file_id!r}")
        self.field = "id"


class FileInUse(Exception):
    def __init__(self, file_id: str, batch_id: str) -> None:
        super().__init__(f"file {file_id} is read by {batch_id}; cancel it, or wait until it ends")
        self.field = "id"


class BatchUnknown(Exception):
    def __init__(self, batch_id: str) -> None:
        super().__init__(f"there is no batch {batch_id!r}")
        self.field = "id"


class BatchEnded(Exception):
    def __init__(self, batch_id: str, status: str) -> None:
        super().__init__(f"batch {batch_id} is {status} and cannot be cancelled")
        self.field = "id"


class TooManyBatches(Exception):
    """`retry_after_s`: when it is worth to ask again."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} batches are under way, which is the limit; wait until one ends")
        self.retry_after_s = 60.0


class UploadTooLarge(Exception):
    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the file is larger than {most_bytes} bytes; send it in parts")
        self.field = "file"


class StorageFailed(Exception):
    """The disk of the server is full, or cannot be written to."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(f"the file could not be kept: {reason.strerror}")
