"""SQL that answers the same for the same tables, and a DuckDB that reads nothing else."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from pipelines.errors import BadQuery, UntrackableQuery
from pipelines.sources.scratch import scratch_folder

# One thread reads rows in the order of the files, so that what depends on it (first, list, ties)
# is the same in every sync; embedding what comes out takes far longer.
_SETTINGS = """
SET threads = 1;
SET TimeZone = 'UTC';
SET max_temp_directory_size = '100GB';
SET autoinstall_known_extensions = false;
SET autoload_known_extensions = false;
SET python_enable_replacements = false;
"""
_MEMORY = "1GB"
_LOCK = "SET enable_external_access = false; SET lock_configuration = true;"

# DuckDB calls these stable within one query, as it calls `+`: its own marks do not tell them.
_CLOCKS = frozenset(
    {
        "ago", "current_date", "current_localtime", "current_localtimestamp", "current_time",
        "current_timestamp", "get_current_time", "get_current_timestamp", "localtime",
        "localtimestamp", "now", "pg_conf_load_time", "pg_postmaster_start_time", "today",
        "transaction_timestamp", "txid_current",
    }
)  # fmt: skip
_NEED_ORDER = frozenset(
    {"row_number", "ntile", "lead", "lag", "first_value", "last_value", "nth_value"}
)


@contextmanager
def locked_duckdb(
    tables: Mapping[str, ds.Dataset], scratch: Path | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in memory that sees `tables` by name, and no file, network or extension.

    scratch: where a folder is made for what does not fit into its 1 GB of memory, None for the
    system's place.
    """
    with (
        scratch_folder(scratch) as folder,
        duckdb.connect(":memory:") as connection,
    ):
        connection.execute(_SETTINGS)
        connection.execute("SET memory_limit = $size", {"size": _MEMORY})
        connection.execute("SET temp_directory = $folder", {"folder": str(folder)})
        connection.execute(_LOCK)
        for name, dataset in tables.items():
            connection.register(name, dataset)
        yield connection


def check_query(sql: str) -> None:
    """Raises BadQuery unless the text is one SELECT, UntrackableQuery where its answer depends on
    the clock, on chance, or on the order in which rows happen to be stored."""
    with translated(sql):
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise BadQuery(f"a source's SQL is one SELECT, this is not: {shortened(sql)}")
        with locked_duckdb({}, None) as connection:
            volatile = _volatile(connection)
            form = connection.execute("SELECT json_serialize_sql($sql::VARCHAR)", {"sql": sql})
            (text,) = form.fetchone() or ("",)
    tree = json.loads(text)
    if tree["error"]:
        raise BadQuery(f"the SQL cannot be read ({tree['error_message']}): {shortened(sql)}")
    for node in _nodes(tree["statements"]):
        if reason := _untrackable(node, volatile):
            raise UntrackableQuery(
                f"{reason}, so its answer can change while its tables do not, which no sync would "
                f"notice; take it out of: {shortened(sql)}"
            )


def schema_of(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Schema:
    """The answer's columns; the query is bound, and reads no row. Raises BadQuery."""
    with translated(sql):
        return connection.sql(sql).limit(0).to_arrow_table().schema


def answer(
    connection: duckdb.DuckDBPyConnection, sql: str, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """The answer in batches, as it is computed. Raises BadQuery."""
    with translated(sql):
        yield from connection.sql(sql).to_arrow_reader(batch_rows)


def shortened(sql: str) -> str:
    """The SQL on one line of a message."""
    line = " ".join(sql.split())
    return line if len(line) <= 200 else f"{line[:200]}…"


@contextmanager
def translated(sql: str) -> Iterator[None]:
    """DuckDB's errors as BadQuery in one line, without its drawing of where in the text it is."""
    try:
        yield
    except duckdb.Error as exc:
        said = " ".join(str(exc).split("\nLINE ", 1)[0].split())
        raise BadQuery(f"{said}; the SQL is: {shortened(sql)}") from exc


def _volatile(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    marked = connection.execute(
        "SELECT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
    ).fetchall()
    # An error is the same every time.
    return frozenset(name for (name,) in marked) - {"error"}


def _nodes(form: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object within."""
    waiting = [form]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield here
        waiting.extend(here.values() if isinstance(here, dict) else here)
        waiting = [held for held in waiting if isinstance(held, (dict, list))]


def _untrackable(node: Mapping[str, Any], volatile: frozenset[str]) -> str | None:
    """What makes the answer depend on more than the tables, None where nothing does."""
    name = str(node.get("function_name", "")).lower()
    if name in volatile:
        return f"the query calls {name}()"
    if name in _CLOCKS or (name == "age" and len(node.get("arguments", ())) == 1):
        return f"the query asks for the time by {name}()"
    if node.get("class") == "WINDOW" and name in _NEED_ORDER and not node.get("orders"):
        return f"the query numbers rows by {name}() without an ORDER BY"
    columns = node.get("column_names")
    if node.get("class") == "COLUMN_REF" and columns and len(columns) == 1:
        return f"the query asks for the time by {columns[0]}" if _is_clock(columns[0]) else None
    if node.get("sample"):
        return "the query takes a sample"
    return _unordered(node.get("modifiers") or ())


def _is_clock(column: str) -> bool:
    return column.lower() in _CLOCKS


def _unordered(modifiers: Any) -> str | None:
    kinds = {modifier["type"]: modifier for modifier in modifiers}
    if "ORDER_MODIFIER" in kinds:
        return None
    if any(kind.startswith("LIMIT") for kind in kinds):
        return "the query has a LIMIT without an ORDER BY"
    if kinds.get("DISTINCT_MODIFIER", {}).get("distinct_on_targets"):
        return "the query has a DISTINCT ON without an ORDER BY"
    return None
