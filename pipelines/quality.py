"""What the rows of a table must be like, declared per index and checked by pandera.

    quality:
      - {column: body, check: length, min: 20, on_fail: quarantine}
      - {column: kind, check: allowed, values: [note, manual], on_fail: warn}
      - {column: body, check: language, languages: [en, de], on_fail: warn}

Nulls break only `not_null`: a column that may be empty and has a length needs no second rule.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa

from pipelines.errors import BadCheck, QualityFailed
from pipelines.languages import check_languages, is_other

if TYPE_CHECKING:
    import pandas
    import pandera.pandas as pandera

CheckName = Literal["not_null", "length", "range", "allowed", "matches", "language"]
OnFail = Literal["fail", "warn", "quarantine"]

_SHOWN_KEYS = 3
_FIELDS = {
    "not_null": frozenset[str](),
    "length": frozenset({"min", "max"}),
    "range": frozenset({"min", "max"}),
    "allowed": frozenset({"values"}),
    "matches": frozenset({"pattern"}),
    "language": frozenset({"languages"}),
}


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """One rule. minimum, maximum: of `length` (characters, or items of a list) and `range`.

    pattern: of `matches`, from the first character of the value on. languages: of `language`,
    which is broken by a text that is surely of none of them.
    """

    column: str
    check: CheckName
    on_fail: OnFail = "fail"
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[object, ...] = ()
    pattern: str | None = None
    languages: tuple[str, ...] = ()

    def __str__(self) -> str:
        bounds = {"min": self.minimum, "max": self.maximum, "pattern": self.pattern}
        told = [f"{name} {value}" for name, value in bounds.items() if value is not None]
        if self.values:
            told.append(f"values {', '.join(map(str, self.values))}")
        if self.languages:
            told.append(f"languages {', '.join(self.languages)}")
        return " ".join([f"{self.column}: {self.check}", *told])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a batch came to. failures, warnings: a sentence a rule that is broken.

    quarantined: key to the rules that its row breaks.
    """

    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    quarantined: Mapping[str, str] = field(default_factory=dict)

    def raise_failures(self) -> None:
        """Raises QualityFailed where a rule is broken whose `on_fail` is fail."""
        if self.failures:
            raise QualityFailed(
                f"{'; '.join(self.failures)}; mend the rows, or set on_fail to warn or quarantine"
            )


def parse_checks(
    form: Sequence[Mapping[str, object]], schema: pa.Schema
) -> tuple[QualityCheck, ...]:
    """The rules of an index's `quality` section, for a table of this schema.

    Raises BadCheck naming the rule, what is wrong with it and what is allowed.
    """
    return tuple(_parse(one, f"quality[{place}]", schema) for place, one in enumerate(form))


def judge(batch: pa.RecordBatch, checks: tuple[QualityCheck, ...], *, key: str) -> Verdict:
    """Every rule against every row of a batch. key: the column that names the rows.

    Text in the columns must be UTF-8. Raises BadCheck for a rule that cannot be made of a column.
    """
    if not checks or not batch.num_rows:
        return Verdict()
    keys = batch.column(key).to_pylist()
    broken = {check: [keys[row] for row in rows] for check, rows in _broken(batch, checks).items()}
    aside: dict[str, str] = {}
    for check, found in broken.items():
        if check.on_fail == "quarantine":
            for one in found:
                aside[one] = f"{aside[one]}; {check}" if one in aside else str(check)
    return Verdict(
        failures=_told(broken, "fail", len(keys)),
        warnings=_told(broken, "warn", len(keys)),
        quarantined=aside,
    )


def _parse(form: Mapping[str, object], at: str, schema: pa.Schema) -> QualityCheck:
    column, name = form.get("column"), form.get("check")
    on_fail = form.get("on_fail", "fail")
    if column not in schema.names:
        raise BadCheck(
            f"{at}: there is no column {column!r}; the table has: {', '.join(schema.names)}"
        )
    if name not in _FIELDS:
        raise BadCheck(f"{at}: there is no check {name!r}; known are: {', '.join(_FIELDS)}")
    if on_fail not in get_args(OnFail):
        raise BadCheck(f"{at}.on_fail is {on_fail!r}; it must be fail, warn or quarantine")
    given = form.keys() - {"column", "check", "on_fail"}
    takes = ", ".join(sorted(_FIELDS[name])) or "nothing"
    if unknown := given - _FIELDS[name]:
        raise BadCheck(f"{at}: {name} has no {sorted(unknown)[0]!r}; it takes: {takes}")
    if _FIELDS[name] and not given:
        raise BadCheck(f"{at}: {name} needs one of: {takes}")
    check = QualityCheck(
        column=str(column), check=name, on_fail=on_fail,  # type: ignore[arg-type]
        minimum=_number(form, "min", at), maximum=_number(form, "max", at),
        values=_list(form, "values", at), pattern=_pattern(form, at),
        languages=_languages(form, at),
    )  # fmt: skip
    if check.minimum is not None and check.maximum is not None and check.minimum > check.maximum:
        raise BadCheck(f"{at}: min {check.minimum:g} is more than max {check.maximum:g}")
    _check_type(check, schema.field(check.column).type, at)
    return check


def _number(form: Mapping[str, object], name: str, at: str) -> float | None:
    value = form.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise BadCheck(f"{at}.{name} is {value!r}; it must be a number")
    return value


def _list(form: Mapping[str, object], name: str, at: str) -> tuple[object, ...]:
    values = form.get(name, ())
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise BadCheck(f"{at}.{name} is {values!r}; it must be a list")
    return tuple(values)


def _languages(form: Mapping[str, object], at: str) -> tuple[str, ...]:
    languages = _list(form, "languages", at)
    if "languages" in form:
        check_languages(languages, f"{at}.languages")
    return tuple(map(str, languages))


def _pattern(form: Mapping[str, object], at: str) -> str | None:
    pattern = form.get("pattern")
    if pattern is None:
        return None
    try:
        return re.compile(str(pattern)).pattern
    except re.error as exc:
        raise BadCheck(f"{at}.pattern {pattern!r} is no regular expression: {exc}") from exc


def _check_type(check: QualityCheck, kind: pa.DataType, at: str) -> None:
    is_text, is_number = _is_text(kind), pa.types.is_integer(kind) or pa.types.is_floating(kind)
    fits: dict[CheckName, tuple[bool, str]] = {
        "length": (is_text or _is_list(kind), "a string or a list"),
        "range": (is_number, "a number"),
        "matches": (is_text, "a string"),
        "language": (is_text, "a string"),
        "allowed": (is_text or is_number or pa.types.is_boolean(kind), "a string or a number"),
    }
    does_fit, wanted = fits.get(check.check, (True, ""))
    if not does_fit:
        raise BadCheck(f"{at}: {check.check} needs {wanted}; column {check.column!r} is {kind}")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return str(kind) in ("string", "large_string", "string_view")


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _broken(
    batch: pa.RecordBatch, checks: tuple[QualityCheck, ...]
) -> dict[QualityCheck, list[int]]:
    """The rows, by position, that break each rule; a rule that none breaks is left out."""
    import pandas
    import pandera.pandas as pandera

    by_column = _by_column(checks)
    # One type of string: pandera's checks know no views and no dictionaries.
    arrays = [_plain(batch.column(name)) for name in by_column]
    frame = pa.table(arrays, names=list(by_column)).to_pandas(types_mapper=pandas.ArrowDtype)
    try:
        _schema(checks).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as exc:
        found: dict[QualityCheck, list[int]] = {}
        for column, number, row, case in _cases(exc):
            if row is None:
                raise BadCheck(f"column {column!r} cannot be checked: {case}") from exc
            found.setdefault(by_column[column][number], []).append(row)
        return found
    return {}


def _cases(exc: "pandera.errors.SchemaErrors") -> list[tuple[str, int, int | None, object]]:
    cases = exc.failure_cases
    rows = [None if row != row or row is None else int(row) for row in cases["index"]]
    numbers = [0 if n is None or n != n else int(n) for n in cases["check_number"]]
    return list(zip(cases["column"], numbers, rows, cases["failure_case"], strict=True))


def _by_column(checks: tuple[QualityCheck, ...]) -> dict[str, list[QualityCheck]]:
    found: dict[str, list[QualityCheck]] = {}
    for check in checks:
        found.setdefault(check.column, []).append(check)
    return found


@lru_cache(maxsize=16)
def _schema(checks: tuple[QualityCheck, ...]) -> "pandera.DataFrameSchema":
    # Late: pandas and pandera take a second to import, and most indexes declare no rule.
    import pandera.pandas as pandera

    columns = {
        name: pandera.Column(checks=[_made(one) for one in found], nullable=True)
        for name, found in _by_column(checks).items()
    }
    return pandera.DataFrameSchema(columns)


def _made(check: QualityCheck) -> "pandera.Check":
    import pandera.pandas as pandera

    low, high = check.minimum, check.maximum
    if check.check == "not_null":
        return pandera.Check(lambda series: series.notna(), ignore_na=False)
    if check.check == "length":
        return pandera.Check(lambda series: _lengths(series).between(_low(low), _high(high)))
    if check.check == "range":
        return pandera.Check(lambda series: series.between(_low(low), _high(high)))
    if check.check == "allowed":
        return pandera.Check.isin(list(check.values))
    if check.check == "language":
        languages = check.languages
        return pandera.Check(lambda series: ~series.map(lambda text: is_other(text, languages)))
    return pandera.Check.str_matches(check.pattern or "")


def _lengths(series: "pandas.Series") -> "pandas.Series":
    if not _is_list(series.dtype.pyarrow_dtype):
        return series.str.len()
    # pandas 2 numbers the rows of what `list.len` returns anew.
    return series.list.len().set_axis(series.index)


def _low(bound: float | None) -> float:
    return float("-inf") if bound is None else bound


def _high(bound: float | None) -> float:
    return float("inf") if bound is None else bound


def _plain(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if _is_text(column.type) else column


def _told(broken: Mapping[QualityCheck, list[str]], on_fail: OnFail, rows: int) -> tuple[str, ...]:
    return tuple(
        f"{len(keys)} of {rows} rows break the rule {check}, such as "
        f"{', '.join(repr(key) for key in keys[:_SHOWN_KEYS])}"
        for check, keys in broken.items()
        if check.on_fail == on_fail
    )
