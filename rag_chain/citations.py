"""Citations: checked against the passages that were in the prompt, never taken on trust."""

import re
from collections.abc import Iterator, Sequence

from rag_chain.answer import Citation
from vector_index.passages import Hit, cosine_of

# Below this share of common words a sentence is left without a citation.
MIN_SUPPORT = 0.5

_MARKER = re.compile(r"\s*\[(\d{1,3})\]")
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+(?=\s|\[|$)|\n|$)|[.!?]")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")


def cite(text: str, hits: Sequence[Hit]) -> tuple[str, tuple[Citation, ...]]:
    """The text with only true markers, and one citation for each passage it rests on.

    hits: the passages in the prompt, in the order of their markers [1], [2], …. A marker of
    the model that names no passage is removed. A sentence without a marker gets that of the
    passage sharing most of its words, if it shares at least MIN_SUPPORT of them.
    """
    citations: dict[int, Citation] = {}
    pieces: list[str] = []
    for sentence, markers in _sentences(text):
        valid = [number for number in markers if 1 <= number <= len(hits)]
        found = [_citation(n, sentence, hits, "model") for n in valid]
        if not found and (best := _best(sentence, hits)) is not None:
            found = [best]
        for citation in found:
            citations.setdefault(citation.marker, citation)
        marks = "".join(f"[{c.marker}]" for c in found)
        pieces.append(f"{sentence.rstrip()} {marks}" if marks else sentence.rstrip())
    return " ".join(pieces).strip(), tuple(citations[n] for n in sorted(citations))


def support(sentence: str, passage: str) -> float:
    """Share of the sentence's distinct words (three letters or more) in the passage, 0..1."""
    words = {word.lower() for word in _WORD.findall(sentence)}
    if not words:
        return 0.0
    return len(words & {word.lower() for word in _WORD.findall(passage)}) / len(words)


def _sentences(text: str) -> Iterator[tuple[str, list[int]]]:
    """Sentences without their markers; markers after the full stop belong to the sentence."""
    position = 0
    while position < len(text):
        match = _SENTENCE.match(text, position)
        end = match.end() if match else len(text)
        while trailing := _MARKER.match(text, end):
            end = trailing.end()
        piece = text[position:end]
        position = end
        markers = [int(number) for number in _MARKER.findall(piece)]
        if sentence := _MARKER.sub("", piece).strip():
            yield sentence, markers


def _best(sentence: str, hits: Sequence[Hit]) -> Citation | None:
    found = [_citation(n, sentence, hits, "attributed") for n in range(1, len(hits) + 1)]
    best = max(found, key=lambda citation: citation.support, default=None)
    return best if best is not None and best.support >= MIN_SUPPORT else None


def _citation(number: int, sentence: str, hits: Sequence[Hit], origin: str) -> Citation:
    hit = hits[number - 1]
    passage = hit.passage
    return Citation(
        marker=number,
        document_id=passage.document_id,
        title=passage.title,
        start=passage.start,
        end=passage.end,
        score=cosine_of(hit),
        support=support(sentence, f"{passage.title} {passage.text}"),
        origin="model" if origin == "model" else "attributed",
    )
