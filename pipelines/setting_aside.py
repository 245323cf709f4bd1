"""The hooks of a sync for rows that it cannot index: the rest of the commit goes on.

    begin > wanted > sift > (cut, embed) > reject > before_publish > publish > after_publish

One object a sync. A row is in quarantine before the generation without it is live, and leaves
it after the generation with it is: whoever is killed in between, no row is in neither.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from pipelines.quality import QualityCheck
from pipelines.quarantine import Quarantine, Rejection
from pipelines.sifting import Refused, sift
from vector_index.passages import SourceVersion

# A rule may refuse every row of a large table: past these, key and reason are kept, not content.
_SHOWN_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What a row must be like. max_bytes: of its text; embed_timeout_s: of one call."""

    checks: tuple[QualityCheck, ...] = ()
    max_bytes: int | None = None
    embed_timeout_s: float | None = None


@dataclass(slots=True)
class SettingAside:
    """key, text: the columns. retried: keys to try although they are held as they are."""

    quarantine: Quarantine
    key: str
    text: str
    rules: Rules = field(default_factory=Rules)
    retried: frozenset[str] = frozenset()
    warnings: list[str] = field(default_factory=list)
    _held: dict[str, str | None] = field(default_factory=dict, init=False)
    _rejected: dict[str, Refused] = field(default_factory=dict, init=False)

    @property
    def rejected(self) -> frozenset[str]:
        """The keys set aside by this sync: they are not to be in the index, in no version."""
        return frozenset(self._rejected)

    def begin(self) -> frozenset[str]:
        """The keys that are in quarantine now."""
        self._held = self.quarantine.held()
        return frozenset(self._held)

    def wanted(self, hashes: Mapping[str, str]) -> tuple[dict[str, str], frozenset[str]]:
        """Of the rows to write, those to be tried; and those that are known to fail as they are.

        After `begin`. The index may still have an older version of the latter: they are to be
        removed from it.
        """
        known = {
            key
            for key, value in hashes.items()
            if key not in self.retried and self._held.get(key) == value
        }
        return {key: h for key, h in hashes.items() if key not in known}, frozenset(known)

    def sift(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch that can be read and keep the rules. Raises QualityFailed."""
        found = sift(
            batch,
            key=self.key,
            text=self.text,
            checks=self.rules.checks,
            max_bytes=self.rules.max_bytes,
        )
        self.warnings += found.warnings
        for refused in found.refused:
            self._reject(refused)
        return found.good

    def reject(self, refused: Refused) -> None:
        """Sets a document aside that could be read and not be made; the first reason counts."""
        if refused.key not in self._rejected:
            self._reject(refused)

    def before_publish(self, hashes: Mapping[str, str], version: SourceVersion) -> None:
        """Puts the rejected rows into quarantine. Raises QuarantineFailed: then do not publish."""
        self.quarantine.add(
            [
                Rejection(
                    key=key,
                    reason=refused.reason,
                    detail=refused.detail,
                    table_id=version.table_id,
                    table_version=version.version,
                    row_hash=hashes.get(key),
                    row=refused.row,
                )
                for key, refused in self._rejected.items()
            ]
        )

    def after_publish(self, written: Collection[str], removed: Collection[str]) -> None:
        """Closes what is indexed now, or gone from the table. Raises QuarantineFailed.

        removed: rows that the table no longer has, not those of `wanted` or `rejected`.
        """
        done = {*written, *removed} - self._rejected.keys()
        if closed := done & self._held.keys():
            self.quarantine.resolve(closed)

    def _reject(self, refused: Refused) -> None:
        is_shown = len(self._rejected) < _SHOWN_ROWS
        self._rejected[refused.key] = refused if is_shown else replace(refused, row=None)
