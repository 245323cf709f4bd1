"""What a batch was begun with: a run that goes on must ask the same of the same rows."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Everything that changes an answer. Kept with the results.

    table_identity: differs whenever rows of the table may; table_version: None for Parquet.
    """

    table: str
    table_identity: str
    table_version: int | None
    key: str
    prompt: str
    system: str | None
    model: str
    max_tokens: int
    temperature: float

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "BatchPlan":
        return BatchPlan(**json.loads(text))

    def differences(self, wanted: "BatchPlan") -> Sequence[str]:
        """Each field that differs, as `model: 'a' here, 'b' asked for`."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(wanted)
        return [
            f"{name}: {mine[name]!r} there, {theirs[name]!r} asked for"
            for name in mine
            if mine[name] != theirs[name]
        ]

    def messages(self, prompt: str) -> list[dict[str, str]]:
        """The conversation that asks one filled prompt."""
        told = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*told, {"role": "user", "content": prompt}]


def prompt_hash(messages: Sequence[dict[str, str]]) -> str:
    """SHA-256 of what the model was asked, system prompt and all."""
    return hashlib.sha256(json.dumps(messages).encode("utf-8", "surrogatepass")).hexdigest()
