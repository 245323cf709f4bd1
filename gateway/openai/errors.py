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
