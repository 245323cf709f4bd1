"""An index proved against its table now and then, while it is served."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines.errors import IndexBehind
from pipelines.proof import Proof

_log = logging.getLogger(__name__)

# An index that is behind its table is proved once its sync is through.
_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Proved:
    """What the last proof found: documents missing, too many, or other than their rows."""

    at: datetime
    is_equal: bool
    missing: int
    extra: int
    changed: int


class ScheduledProof:
    """Runs `prove` every so many seconds on a thread of its own; drift is logged as an error."""

    def __init__(self, name: str, prove: Callable[[], Proof], *, every_s: float) -> None:
        self.last: Proved | None = None
        self._name = name
        self._prove = prove
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduled-proof", daemon=True)

    def start(self) -> None:
        """Begins; the first proof comes after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, after a proof under way."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        wait = self._every_s
        while not self._stopping.wait(wait):
            wait = self._every_s if self._once() else min(self._every_s, _AGAIN_S)

    def _once(self) -> bool:
        """Whether there was anything to compare."""
        began = time.monotonic()
        try:
            proof = self._prove()
        except IndexBehind as exc:
            _log.info("proof_put_off index=%s reason=%s", self._name, exc)
            return False
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - or proofs would end without a word
            _log.warning("proof_failed index=%s reason=%s", self._name, exc)
            return True
        drift = proof.drift
        self.last = Proved(
            datetime.now(UTC), proof.is_equal, drift.missing, drift.extra, drift.changed
        )
        _log.log(
            logging.INFO if proof.is_equal else logging.ERROR,
            "proved index=%s is_equal=%s missing=%d extra=%d changed=%d faulty=%d seconds=%.1f",
            self._name, proof.is_equal, drift.missing, drift.extra, drift.changed, proof.faulty,
            time.monotonic() - began,
        )  # fmt: skip
        return True
