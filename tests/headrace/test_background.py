"""What runs behind a server survives errors that nobody foresaw, and says them."""

import logging
import threading
from types import SimpleNamespace

import pytest

from headrace.follower import FollowedIndex
from headrace.scheduled_proof import ScheduledProof

PATIENCE_S = 20


class Panic(BaseException):
    """As Rust extensions raise it: no Exception."""


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), Panic("poisoned lock")])
def test_a_follower_goes_on_after_an_error_that_nobody_named(error, caplog):
    looked, errors = threading.Semaphore(0), [error]

    class Index:
        def refresh(self):
            looked.release()
            if errors:
                raise errors.pop()

        def version(self):
            return SimpleNamespace(source=None)

    follower = FollowedIndex(Index(), SimpleNamespace(lag=lambda _: "no lag"))
    follower.start()
    try:
        for _ in range(3):
            assert looked.acquire(timeout=PATIENCE_S)
    finally:
        follower.stop()
    assert follower.lag == "no lag"
    assert str(error) in caplog.text


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Panic("poisoned lock")])
def test_proofs_go_on_after_an_error_that_nobody_named(error, caplog):
    tried = threading.Semaphore(0)

    def prove():
        tried.release()
        raise error

    proof = ScheduledProof("docs", prove, every_s=0.01)
    with caplog.at_level(logging.WARNING):
        proof.start()
        try:
            for _ in range(3):
                assert tried.acquire(timeout=PATIENCE_S)
        finally:
            proof.stop()
    assert f"proof_failed index=docs reason={error}" in caplog.text
