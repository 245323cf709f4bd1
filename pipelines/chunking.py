"""Documents cut into passages that fit the embedder, at sentence and line borders."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from semantic_text_splitter import TextSplitter


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text; `start` and `end` are character offsets into it."""

    text: str
    start: int
    end: int

    @property
    def text_hash(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


Chunker = Callable[[str], list[Chunk]]


def token_chunker(tokenizer_file: Path | None, max_tokens: int) -> Chunker:
    """Cuts text into chunks of at most `max_tokens` of the embedder's own tokens.

    Without a tokenizer (the hashing embedder) a token is taken to be a word.
    """
    if tokenizer_file is None:
        splitter = TextSplitter.from_callback(lambda text: len(text.split()), max_tokens)
    else:
        # The file's own truncation (128) would hide longer texts from the splitter.
        splitter = _from_tokenizer(tokenizer_file, max_tokens)

    def chunk(text: str) -> list[Chunk]:
        pieces = splitter.chunk_indices(text)
        return [Chunk(piece, start, start + len(piece)) for start, piece in pieces]

    return chunk


def _from_tokenizer(tokenizer_file: Path, max_tokens: int) -> TextSplitter:
    form = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    form["truncation"] = form["padding"] = None
    return TextSplitter.from_huggingface_tokenizer_str(json.dumps(form), max_tokens)
