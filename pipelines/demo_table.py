"""The demo's table: Python's own documentation, which every CPython carries."""

import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from pydoc_data import topics
from types import ModuleType

import pyarrow as pa
from deltalake import write_deltalake

# Importing these opens a browser, prints a poem or needs a display.
_SKIPPED = frozenset({"antigravity", "this", "idlelib", "tkinter", "turtle", "turtledemo"})
# The "dead batteries" of PEP 594 are shown to maintainers only, so that access can be seen.
_RETIRED = frozenset(
    {
        *("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "mailcap", "msilib"),
        *("nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib"),
        *("uu", "xdrlib"),
    }
)
_SHORTEST = 40

DEMO_TENANT = "python"
EVERYONE = "everyone"
MAINTAINERS = "maintainers"

DEMO_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("module", pa.string()),
        pa.field("body", pa.string()),
        pa.field("tenant", pa.string()),
        pa.field("allowed_groups", pa.list_(pa.string())),
        pa.field("updated_at", pa.timestamp("us", tz="UTC")),
    ]
)


def write_demo_table(path: Path) -> int:
    """Writes the table with its change data feed on; returns the number of documents."""
    rows = list(demo_rows())
    write_deltalake(
        str(path),
        pa.Table.from_pylist(rows, schema=DEMO_SCHEMA),
        configuration={"delta.enableChangeDataFeed": "true"},
    )
    return len(rows)


def demo_rows() -> Iterator[dict[str, object]]:
    """One row a documented thing: language topics, then modules, classes, functions, methods."""
    now = datetime.now(UTC)
    for name, body in sorted(topics.topics.items()):
        yield _row(f"topic:{name}", name, "topic", "", body, now)
    for name in sorted(sys.stdlib_module_names - _SKIPPED):
        module = None if name.startswith("_") else _import(name)
        if module is None:
            continue
        for identifier, kind, text in _documented(module, name):
            yield _row(identifier, identifier, kind, name, text, now)


def _documented(module: ModuleType, name: str) -> Iterator[tuple[str, str, str]]:
    entries = [(name, "module", module.__doc__)]
    for attribute, thing in sorted(vars(module).items()):
        if attribute.startswith("_") or getattr(thing, "__module__", None) != name:
            continue
        if inspect.isclass(thing):
            entries.append((f"{name}.{attribute}", "class", thing.__doc__))
            for inner, method in sorted(vars(thing).items()):
                if not inner.startswith("_") and inspect.isroutine(method):
                    entries.append((f"{name}.{attribute}.{inner}", "method", method.__doc__))
        elif inspect.isroutine(thing):
            entries.append((f"{name}.{attribute}", "function", thing.__doc__))
    for identifier, kind, text in entries:
        if isinstance(text, str) and len(text) > _SHORTEST:
            yield identifier, kind, inspect.cleandoc(text)


def _import(name: str) -> ModuleType | None:
    """The module, or None where this platform's build does not have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def _row(
    identifier: str, title: str, kind: str, module: str, body: str, now: datetime
) -> dict[str, object]:
    return {
        "id": identifier,
        "title": title,
        "kind": kind,
        "module": module,
        "body": body,
        "tenant": DEMO_TENANT,
        "allowed_groups": [MAINTAINERS] if module in _RETIRED else [EVERYONE],
        "updated_at": now,
    }
