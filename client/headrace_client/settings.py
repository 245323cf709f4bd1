"""Where the server is, who is asking, and how long a call may take."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from headrace_client.errors import InvalidSetting
from headrace_client.retries import Deadline, RetryPolicy, Tries
from headrace_client.version import VERSION

URL_VARIABLE = "HEADRACE_URL"
KEY_VARIABLE = "HEADRACE_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT_S = 60.0
# Servers (uvicorn's default is 5 s) close idle connections: we do so first, so that no request is
# sent on one that is being closed.
KEEPALIVE_S = 3.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client is built from. The key is in no repr."""

    base_url: str
    api_key: str | None = field(repr=False)
    timeout_s: float
    retries: RetryPolicy

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        headers = {
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "user-agent": f"headrace-client/{VERSION}",
        }
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        return headers

    @property
    def is_loopback(self) -> bool:
        """Whether the server is this machine: then no proxy of the environment is asked."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def tries(self, timeout_s: float | None) -> Tries:
        """A call's tries, which start now. Raises InvalidSetting."""
        return Tries(self.retries, self.deadline(timeout_s))

    def deadline(self, timeout_s: float | None) -> Deadline:
        """A call's deadline. Raises InvalidSetting."""
        return Deadline(self.timeout_s if timeout_s is None else timeout_s)


def resolve(
    base_url: str | None,
    api_key: str | None,
    timeout_s: float,
    retries: RetryPolicy,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings, with HEADRACE_URL and HEADRACE_API_KEY for what is None. Raises InvalidSetting."""
    url = base_url or environment.get(URL_VARIABLE) or DEFAULT_URL
    key = api_key or environment.get(KEY_VARIABLE) or None
    _check_url(url)
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidSetting("api_key has characters that no HTTP header takes; is it cut whole?")
    # Says what is wrong with a timeout now, not at the first call.
    Deadline(timeout_s)
    return Settings(url.rstrip("/"), key, timeout_s, retries)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        # A port that is no number shows only when it is read.
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    else:
        if "@" in parts.netloc:
            # Not shown: it may hold a password.
            raise InvalidSetting("base_url holds a user name; give api_key instead")
    if not is_usable:
        raise InvalidSetting(f"base_url is {url!r}; give one like {DEFAULT_URL}")
    if parts.query or parts.fragment:
        raise InvalidSetting(f"base_url is {url!r}; it takes no query and no fragment")
