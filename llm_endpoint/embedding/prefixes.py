"""What some models want in front of a question and of a passage (E5: "query: ", "passage: ")."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from llm_endpoint.embedding.protocol import EmbedderInfo, Purpose


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Put in front of every text, "" for a model that wants none."""

    query: str = ""
    passage: str = ""

    def put(self, texts: Sequence[str], purpose: Purpose) -> list[str]:
        """Each text with its prefix."""
        prefix = self.query if purpose == "query" else self.passage
        return [f"{prefix}{text}" for text in texts]

    def identity(self, info: EmbedderInfo) -> EmbedderInfo:
        """Other prefixes make other vectors: an index of the ones refuses the others by this id."""
        if self == Prefixes():
            return info
        digest = blake2b(f"{self.query}\0{self.passage}".encode(), digest_size=4).hexdigest()
        return dataclasses.replace(info, id=f"{info.id}+prefixes-{digest}")
