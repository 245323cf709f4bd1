"""Lists as OpenAI's clients page through them."""

from collections.abc import Sequence

from gateway.openai.errors import InvalidRequest


def page(
    forms: Sequence[dict[str, object]], *, limit: int, order: str, after: str | None, most: int
) -> dict[str, object]:
    """At most `limit` of the forms, which are newest first, after the one of id `after`.

    Raises InvalidRequest.
    """
    if not 1 <= limit <= most:
        raise InvalidRequest("limit", f"is {limit}; it must be 1 to {most}")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order", f"is {order!r}; it must be asc or desc")
    ordered = list(forms) if order == "desc" else list(reversed(forms))
    if after is not None:
        ids = [form["id"] for form in ordered]
        if after not in ids:
            raise InvalidRequest("after", f"is {after!r}, which is not in this list")
        ordered = ordered[ids.index(after) + 1 :]
    shown = ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(ordered) > len(shown),
    }
