"""Results from the fields of a response. Each function raises InvalidField."""

from datetime import datetime

from headrace_client.errors import InvalidField
from headrace_client.fields import Fields
from headrace_client.results import Answer, Citation, Feature, Hit, IndexVersion, Lag, Usage


def answer_of(fields: Fields) -> Answer:
    """The answer of POST /query."""
    return Answer(
        id=fields.text("id"),
        chain=fields.text("chain"),
        text=fields.text("answer"),
        is_known=fields.flag("is_known"),
        citations=fields.each("citations", _citation),
        version=version_of(fields.inner("version")),
        lag=fields.nullable("lag", lag_of),
        features=fields.each("features", _feature),
        model=fields.text("model"),
        usage=_usage(fields.inner("usage")),
        timings_s=fields.mapping("timings_s", Fields.number),
    )


def hit_of(fields: Fields) -> Hit:
    """One hit of a search."""
    return Hit(
        document_id=fields.text("document_id"),
        title=fields.text("title"),
        text=fields.text("text"),
        start=fields.integer("start"),
        end=fields.integer("end"),
        score=fields.number("score"),
        vector_score=fields.nullable("vector_score", Fields.number),
        text_score=fields.nullable("text_score", Fields.number),
        metadata=fields.mapping("metadata", Fields.value),
    )


def version_of(fields: Fields) -> IndexVersion:
    """What an answer or a search was built from."""
    return IndexVersion(
        index=fields.text("index"),
        generation=fields.text("generation"),
        created_at=time_of(fields, "created_at"),
        table_id=fields.text("table_id"),
        table_version=fields.integer("table_version"),
    )


def lag_of(fields: Fields, name: str) -> Lag:
    """The lag in the field `name`."""
    inner = fields.inner(name)
    return Lag(inner.nullable("versions", Fields.integer), inner.number("seconds"))


def time_of(fields: Fields, name: str) -> datetime:
    """The moment in the field `name`, as ISO 8601."""
    text = fields.text(name)
    try:
        return datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidField(fields.path(name), f"is not a time but {text!r}") from exc


def _citation(fields: Fields) -> Citation:
    return Citation(
        marker=fields.integer("marker"),
        document_id=fields.text("document_id"),
        title=fields.text("title"),
        start=fields.integer("start"),
        end=fields.integer("end"),
        score=fields.number("score"),
        support=fields.number("support"),
        origin=fields.text("origin"),
    )


def _feature(fields: Fields) -> Feature:
    return Feature(
        view=fields.text("view"),
        key=fields.text("key"),
        name=fields.text("name"),
        value=fields.value("value"),
        age_s=fields.nullable("age_s", Fields.number),
        is_stale=fields.flag("is_stale"),
    )


def _usage(fields: Fields) -> Usage:
    return Usage(fields.integer("prompt_tokens"), fields.integer("completion_tokens"))
