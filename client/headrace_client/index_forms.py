"""What a server says of its indexes, from the fields of a response. Raises InvalidField."""

from headrace_client.fields import Fields
from headrace_client.forms import lag_of, time_of, version_of
from headrace_client.results import IndexDrift, IndexProof, IndexState, IndexSync


def index_of(fields: Fields) -> IndexState:
    """One index of GET /indexes, or that of GET /indexes/{name}."""
    return IndexState(
        name=fields.text("name"),
        documents=fields.integer("documents"),
        passages=fields.integer("passages"),
        version=fields.nullable("version", lambda outer, name: version_of(outer.inner(name))),
        lag=fields.nullable("lag", lag_of),
        pending_rows=fields.nullable("pending_rows", Fields.integer),
        problem=fields.nullable("problem", Fields.text),
        sync=fields.nullable("sync", lambda outer, name: _sync(outer.inner(name))),
        proof=fields.nullable("proof", lambda outer, name: _proof(outer.inner(name))),
        drift=fields.nullable("drift", lambda outer, name: _drift(outer.inner(name))),
    )


def _sync(fields: Fields) -> IndexSync:
    return IndexSync(
        phase=fields.text("phase"),
        pending_rows=fields.nullable("pending_rows", Fields.integer),
        failures=fields.integer("failures"),
        last_error=fields.nullable("last_error", Fields.text),
        last_error_at=fields.nullable("last_error_at", time_of),
        rows_per_s=fields.nullable("rows_per_s", Fields.number),
        duration_s=fields.nullable("duration_s", Fields.number),
    )


def _proof(fields: Fields) -> IndexProof:
    return IndexProof(
        at=time_of(fields, "at"),
        is_equal=fields.flag("is_equal"),
        missing=fields.integer("missing"),
        extra=fields.integer("extra"),
        changed=fields.integer("changed"),
    )


def _drift(fields: Fields) -> IndexDrift:
    return IndexDrift(
        generation=fields.text("generation"),
        vectors=fields.integer("vectors"),
        mean_cosine=fields.nullable("mean_cosine", Fields.number),
        spread=fields.nullable("spread", Fields.number),
        index_spread=fields.nullable("index_spread", Fields.number),
        near_zero_share=fields.nullable("near_zero_share", Fields.number),
    )
