"""Everything this client raises, as one tree.

HeadraceError
├── InvalidSetting           a base URL, key or time that cannot be used (also a ValueError)
├── ConnectionFailed
│   ├── ServerUnreachable    no response began: refused, unknown host, closed on us     retried
│   └── ConnectionLost       the connection broke inside a response
├── DeadlineExceeded         timeout_s passed, all tries together
├── UnexpectedResponse       what answered does not speak Headrace
│   └── InvalidField         it nearly does: a field is missing or of another type
└── ApiError                 the server says what is wrong: status, message, code, param
    ├── InvalidRequest       any other 4xx; `param` names the field
    ├── Unauthenticated      401
    ├── PermissionDenied     403
    ├── NotFound             404
    ├── Overloaded           429; `retry_after_s`                                       retried
    └── ServerFailed         any other 5xx
        └── Unavailable      503; `retry_after_s`                                       retried

An error in the middle of a stream is the same ApiError, with the status it has outside of one.
"""


class HeadraceError(Exception):
    """Base of everything this client raises on purpose."""


class InvalidSetting(HeadraceError, ValueError):
    """The client cannot be built, or a call made, with this value."""


class ConnectionFailed(HeadraceError):
    """Base of what goes wrong with the connection."""


class ServerUnreachable(ConnectionFailed):
    """No response began, so nothing was answered; asking again is what the client does."""


class ConnectionLost(ConnectionFailed):
    """A response began and did not end."""


class DeadlineExceeded(HeadraceError):
    """The whole call, tries and pauses included, took longer than `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"no complete answer within {self.timeout_s:g} s; give a larger timeout_s"


class UnexpectedResponse(HeadraceError):
    """The address answers, but not as a Headrace server does."""


class InvalidField(UnexpectedResponse):
    """`field` is the path of the field in the response, `citations[0].marker` for example."""

    def __init__(self, field: str, problem: str) -> None:
        # All arguments go to Exception: it is from them that unpickling builds an error again.
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"the response's field {self.field!r} {self.problem}; "
            "are server and client of the same version?"
        )


class ApiError(HeadraceError):
    """The server refused or failed.

    code: a word for programs, None where it was not Headrace that answered (a proxy).
    param: the field of the request at fault. retry_after_s: when to come back, in seconds.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(status, message, code, param, retry_after_s)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        marks = [str(self.status), self.code, self.param and f"param {self.param}"]
        return f"{self.message} ({', '.join(mark for mark in marks if mark)})"


class InvalidRequest(ApiError):
    """The request cannot be answered as it is."""


class Unauthenticated(ApiError):
    """The API key is missing or wrong."""


class PermissionDenied(ApiError):
    """The API key may not do this."""


class NotFound(ApiError):
    """The server has no such chain, index, user or path."""


class Overloaded(ApiError):
    """The server is full."""


class ServerFailed(ApiError):
    """The server could not answer a good request."""


class Unavailable(ServerFailed):
    """A part of the server is not there just now."""


# What a server that is starting, full or stopping makes of a question about its health.
NOT_READY = (ConnectionFailed, DeadlineExceeded, Overloaded, ServerFailed)

_BY_STATUS = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    429: Overloaded,
    503: Unavailable,
}


def class_of(status: int) -> type[ApiError]:
    """The class of the errors with this HTTP status, 400 or more."""
    return _BY_STATUS.get(status, InvalidRequest if status < 500 else ServerFailed)
