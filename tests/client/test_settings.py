"""Where the server is and who is asking."""

import pytest

from headrace_client import AsyncHeadraceClient, HeadraceClient, InvalidSetting, RetryPolicy
from headrace_client.settings import resolve


def settings(base_url=None, api_key=None, timeout_s=1.0, **environment):
    return resolve(base_url, api_key, timeout_s, RetryPolicy(), environment)


def test_the_environment_says_what_the_program_does_not():
    assert settings().base_url == "http://127.0.0.1:8080"
    assert settings(HEADRACE_URL="https://rag.example/").base_url == "https://rag.example"
    assert settings("http://a", HEADRACE_URL="https://b").base_url == "http://a"
    assert settings(HEADRACE_API_KEY="hr_1").headers["authorization"] == "Bearer hr_1"
    assert settings(None, "hr_2", HEADRACE_API_KEY="hr_1").api_key == "hr_2"
    assert "authorization" not in settings(HEADRACE_URL="", HEADRACE_API_KEY="").headers


def test_a_client_reads_the_environment_when_it_is_built(monkeypatch):
    monkeypatch.setenv("HEADRACE_URL", "http://rag.example")
    monkeypatch.setenv("HEADRACE_API_KEY", "hr_secret")
    with HeadraceClient() as client:
        assert repr(client) == "HeadraceClient('http://rag.example')"
    assert repr(AsyncHeadraceClient()) == "AsyncHeadraceClient('http://rag.example')"


def test_the_key_is_in_no_repr():
    assert "hr_secret" not in repr(settings(api_key="hr_secret"))


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://[::1]:1", True),
        ("https://rag.example", False),
        ("http://10.0.0.1", False),
    ],
)
def test_no_proxy_is_asked_for_this_machine(url, is_loopback):
    assert settings(url).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"base_url": "localhost:8080"}, "base_url is 'localhost:8080'"),
        ({"base_url": "ftp://a"}, "base_url is 'ftp://a'"),
        ({"base_url": "http://"}, "base_url is 'http://'"),
        ({"base_url": "http://a:x"}, "base_url is 'http://a:x'"),
        ({"base_url": "http://[a"}, r"base_url is 'http://\[a'"),
        ({"base_url": "http://a?b"}, "no query"),
        ({"api_key": "two words"}, "api_key has characters"),
        ({"api_key": "line\n"}, "api_key has characters"),
        ({"timeout_s": 0.0}, "timeout_s is 0.0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"timeout_s": float("inf")}, "timeout_s is inf"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_with_its_value(given, words):
    with pytest.raises(InvalidSetting, match=words):
        settings(**given)


def test_a_secret_in_a_setting_is_not_in_its_refusal():
    for given in ({"base_url": "http://u:hr_secret@a"}, {"api_key": "hr_secret\n"}):
        with pytest.raises(InvalidSetting) as caught:
            settings(**given)
        assert "hr_secret" not in str(caught.value)
