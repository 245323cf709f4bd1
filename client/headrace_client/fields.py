"""Typed access to a JSON object: what is not there, or not of its type, is an error by its path."""

from collections.abc import Callable
from typing import TypeVar

from headrace_client.errors import InvalidField
from headrace_client.results import Scalar, Value

_T = TypeVar("_T")


class Fields:
    """The fields of one JSON object. Every method raises InvalidField; fields not asked for are
    ignored, so that a newer server may send more."""

    def __init__(self, form: object, path: str = "") -> None:
        """path: where in the response the object stands, empty for the whole."""
        if not isinstance(form, dict):
            raise InvalidField(path or "(all)", f"is not an object but {_shown(form)}")
        self._form = form
        self._path = path

    def text(self, name: str) -> str:
        value = self._get(name)
        if isinstance(value, str):
            return value
        raise self._wrong(name, value, "text")

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if isinstance(value, bool):
            return value
        raise self._wrong(name, value, "true or false")

    def integer(self, name: str) -> int:
        value = self._get(name)
        # bool is a subclass of int.
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self._wrong(name, value, "an integer")

    def number(self, name: str) -> float:
        value = self._get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise self._wrong(name, value, "a number")

    def value(self, name: str) -> Value:
        """A scalar, or a tuple of them."""
        value = self._get(name)
        if isinstance(value, list) and all(isinstance(item, Scalar) for item in value):
            return tuple(value)
        if isinstance(value, Scalar):
            return value
        raise self._wrong(name, value, "a plain value or a list of them")

    def each(self, name: str, decode: Callable[["Fields"], _T]) -> tuple[_T, ...]:
        """A list of objects, decoded."""
        values = self._get(name)
        if not isinstance(values, list):
            raise self._wrong(name, values, "a list")
        path = self.path(name)
        return tuple(decode(Fields(value, f"{path}[{i}]")) for i, value in enumerate(values))

    def inner(self, name: str) -> "Fields":
        """An object."""
        return Fields(self._get(name), self.path(name))

    def mapping(self, name: str, read: Callable[["Fields", str], _T]) -> dict[str, _T]:
        """An object whose keys are data: each value as `read` (one of these methods) gives it."""
        inner = self.inner(name)
        return {key: read(inner, key) for key in inner._form}

    def nullable(self, name: str, read: Callable[["Fields", str], _T]) -> _T | None:
        """None for null, otherwise as `read` (one of these methods) gives it."""
        return None if self._get(name) is None else read(self, name)

    def path(self, name: str) -> str:
        """The whole path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def _get(self, name: str) -> object:
        if name not in self._form:
            raise InvalidField(self.path(name), "is missing")
        value: object = self._form[name]
        return value

    def _wrong(self, name: str, value: object, expected: str) -> InvalidField:
        return InvalidField(self.path(name), f"is not {expected} but {_shown(value)}")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "…"
