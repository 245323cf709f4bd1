"""Why a row is in quarantine."""

from enum import StrEnum


class Reason(StrEnum):
    """A code that stays the same whatever the message beside it says."""

    BAD_ENCODING = "bad_encoding"
    BAD_KEY = "bad_key"
    BAD_PATH = "bad_path"
    BAD_VALUE = "bad_value"
    BAD_VECTOR = "bad_vector"
    TOO_LONG = "too_long"
    EMBEDDER_FAILED = "embedder_failed"
    EMBEDDER_TIMEOUT = "embedder_timeout"
    PARSER_FAILED = "parser_failed"
    PARSER_TIMEOUT = "parser_timeout"
    QUALITY = "quality"

    @property
    def may_pass(self) -> bool:
        """Whether the same row may succeed another time, with nothing changed."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {
        Reason.EMBEDDER_FAILED,
        Reason.EMBEDDER_TIMEOUT,
        Reason.PARSER_FAILED,
        Reason.PARSER_TIMEOUT,
    }
)
