"""Ask a Headrace server: typed answers with citations, sync and async.

    with HeadraceClient("http://127.0.0.1:8080") as headrace:
        print(headrace.query("How do I read a CSV file?").text)

The tree of what it raises is in `headrace_client.errors`.
"""

from headrace_client.async_client import AsyncAnswerStream, AsyncHeadraceClient
from headrace_client.errors import (
    ApiError,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    HeadraceError,
    InvalidField,
    InvalidRequest,
    InvalidSetting,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServerFailed,
    ServerUnreachable,
    Unauthenticated,
    Unavailable,
    UnexpectedResponse,
)
from headrace_client.results import (
    Answer,
    Citation,
    Delta,
    Feature,
    Health,
    Hit,
    IndexDrift,
    IndexProof,
    IndexState,
    IndexSync,
    IndexVersion,
    Lag,
    SearchResult,
    Usage,
)
from headrace_client.retries import RetryPolicy
from headrace_client.sync_client import AnswerStream, HeadraceClient
from headrace_client.version import VERSION as __version__

__all__ = [
    "Answer",
    "AnswerStream",
    "ApiError",
    "AsyncAnswerStream",
    "AsyncHeadraceClient",
    "Citation",
    "ConnectionFailed",
    "ConnectionLost",
    "DeadlineExceeded",
    "Delta",
    "Feature",
    "HeadraceClient",
    "HeadraceError",
    "Health",
    "Hit",
    "IndexDrift",
    "IndexProof",
    "IndexState",
    "IndexSync",
    "IndexVersion",
    "InvalidField",
    "InvalidRequest",
    "InvalidSetting",
    "Lag",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "RetryPolicy",
    "SearchResult",
    "ServerFailed",
    "ServerUnreachable",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedResponse",
    "Usage",
    "__version__",
]
