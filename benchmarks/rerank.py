"""Does MaxSim rank the demo's documents better than the cosine, and at what cost?

Needs the demo's index (`make demo`). Two sets of questions made without a model, each with one
right document:
  description  how a module or class describes one of its members in a list -> the member's
               document; passages of the describing document are left out of both rankings
  sentence     the first sentence of a document, its own name removed -> that document. The words
               stand in the right passage as they are, which flatters any match of tokens
Ranked are documents, by their best passage among the top 50. nDCG@10 and MRR, before and after
the second stage with 10, 20 and 50 candidates, with a 95% interval of the mean paired difference
(bootstrap over the questions). Then five rounds of embedding + search and of each second stage,
interleaved; median and spread in ms.
"""

import asyncio
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from deltalake import DeltaTable
from numpy.typing import NDArray

from headrace import indexes
from headrace.settings import load_settings
from llm_endpoint import find_card
from llm_endpoint.embedding.onnx import OnnxEmbedder
from llm_endpoint.embedding.protocol import EmbedderInfo
from llm_endpoint.rerank import MaxSimReranker
from rag_chain.second_stage import SecondStage, base_scores, by_score
from vector_index.passages import Access, Hit
from vector_index.protocol import VectorIndex

EMBEDDER = "all-minilm-l6-v2-int8"
QUESTIONS = 150
TOP = 50
CANDIDATES = (10, 20, 50)
CUT = 10
RESAMPLES = 10_000
ROUNDS = 5
TIMED_QUESTIONS = 3
SEED = 20261124
EVERYTHING = Access("python", frozenset({"everyone", "maintainers"}))

_MEMBER = re.compile(
    r"^[\s\-*]*(\w+)(?:\([^)]*\))?(?:\s+--?\s+|:\s+|\s{2,})(\S.{20,})$", re.MULTILINE
)
_SENTENCE = re.compile(r"\A(?:\S+\(.*\n+)?(.{30,300}?[.!?])(?:\s|\Z)", re.DOTALL)


Call = Callable[["Question", list[Hit]], object]


@dataclass(frozen=True, slots=True)
class Question:
    """left_out: the document whose passages must not count, because the text is its own."""

    text: str
    answer: str
    left_out: str | None = None


class RememberingEmbedder:
    """Computes the tokens of a text once: the rankings are the same, the waiting is not."""

    def __init__(self, embedder: OnnxEmbedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}

    @property
    def info(self) -> EmbedderInfo:
        return self._embedder.info

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        new = list({text for text in texts if text not in self._known})
        self._known.update(zip(new, self._embedder.embed_tokens(new), strict=True))
        return [self._known[text] for text in texts]


def main() -> None:
    """Prints a table for each set of questions, then the cost."""
    settings = load_settings()
    embedder = default_embedder(settings.weights)
    index = indexes.build_index(settings, "docs", embedder)
    rows = DeltaTable(str(settings.indexes["docs"].source.path)).to_pyarrow_table().to_pylist()
    sets = {"description": list(descriptions(rows)), "sentence": list(sentences(rows))}
    remembering = MaxSimReranker(RememberingEmbedder(embedder))
    for name, questions in sets.items():
        chosen = random.Random(SEED).sample(questions, min(QUESTIONS, len(questions)))
        print(f"\n{name}: {len(chosen)} questions, e.g. {chosen[0].text!r} -> {chosen[0].answer}")
        compare(chosen, embedder, index, remembering)
    measure(sets["description"], embedder, index, MaxSimReranker(embedder))


def default_embedder(weights: Path) -> OnnxEmbedder:
    """The embedder of the demo's index."""
    card = find_card(EMBEDDER)
    folder = weights / card.name
    return OnnxEmbedder(
        folder / card.main_file,
        folder / "tokenizer.json",
        id=card.name,
        weights_sha256=card.weights_sha256,
    )


def descriptions(rows: Sequence[dict[str, str]]) -> Iterator[Question]:
    """Lines such as `- deque: list-like container with …` in the document of `collections`."""
    unique = _unique_bodies(rows)
    seen: set[str] = set()
    for row in rows:
        for name, text in _MEMBER.findall(row["body"]):
            answer, question = f"{row['id']}.{name}", without_name(text, name)
            if answer in unique and question not in seen:
                seen.add(question)
                yield Question(question, answer, left_out=row["id"])


def sentences(rows: Sequence[dict[str, str]]) -> Iterator[Question]:
    """First sentences that no other document starts with."""
    found = [(row, match[1]) for row in rows if (match := _SENTENCE.match(row["body"]))]
    times = Counter(text for _, text in found)
    for row, text in found:
        if times[text] == 1:
            yield Question(without_name(text, row["id"].rpartition(".")[2]), row["id"])


def without_name(text: str, name: str) -> str:
    """One line of text without the word `name`, whatever its case."""
    return " ".join(re.sub(rf"\b{re.escape(name)}\b", "", text, flags=re.IGNORECASE).split())


def compare(
    questions: Sequence[Question],
    embedder: OnnxEmbedder,
    index: VectorIndex,
    reranker: MaxSimReranker,
) -> None:
    """Prints both measures before and after, and the interval of the difference."""
    found = [search(question, embedder, index) for question in questions]
    answers = [question.answer for question in questions]
    before = [rank(hits, answer) for hits, answer in zip(found, answers, strict=True)]
    print(f"right document in the top {TOP}: {sum(position > 0 for position in before)}")
    for candidates in CANDIDATES:
        stage = SecondStage(reranker, candidates)
        after = [
            rank(rerank(question, hits, stage), question.answer)
            for question, hits in zip(questions, found, strict=True)
        ]
        print(f"{candidates} candidates: {moves(before, after)}")
        for name, gain in (("nDCG@10", ndcg), ("MRR", reciprocal)):
            old, new = (np.array([gain(place) for place in ranks]) for ranks in (before, after))
            low, high = interval(new - old)
            print(
                f"  {name:8} cosine {old.mean():.3f}  MaxSim {new.mean():.3f}  "
                f"difference {(new - old).mean():+.3f} (95%: {low:+.3f} to {high:+.3f})"
            )


def rerank(question: Question, hits: Sequence[Hit], stage: SecondStage) -> tuple[Hit, ...]:
    """The hits as the chain's second stage orders them."""
    return by_score(hits, asyncio.run(base_scores(question.text, hits, stage)))


def moves(before: Sequence[int], after: Sequence[int]) -> str:
    """How many right documents went up and down; one that is not found is behind all."""
    pairs = [(b or TOP + 1, a or TOP + 1) for b, a in zip(before, after, strict=True)]
    return f"better for {sum(a < b for b, a in pairs)}, worse for {sum(a > b for b, a in pairs)}"


def search(question: Question, embedder: OnnxEmbedder, index: VectorIndex) -> list[Hit]:
    """The nearest TOP passages that may count."""
    vector = embedder.embed_queries([question.text])[0]
    # The largest document has 117 passages: even it could not crowd the others out.
    found = index.search(vector, k=TOP + 117, access=EVERYTHING).hits
    return [hit for hit in found if hit.passage.document_id != question.left_out][:TOP]


def rank(hits: Sequence[Hit], answer: str) -> int:
    """The position of the document among the documents found, from 1; 0 if it is not there."""
    documents = list(dict.fromkeys(hit.passage.document_id for hit in hits))
    return documents.index(answer) + 1 if answer in documents else 0


def ndcg(position: int) -> float:
    """nDCG@CUT with one relevant document: its discount."""
    return float(1 / np.log2(1 + position)) if 0 < position <= CUT else 0.0


def reciprocal(position: int) -> float:
    return 1 / position if position else 0.0


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """The 95% percentile interval of the mean, by resampling questions."""
    generator = np.random.default_rng(SEED)
    picks = generator.integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def measure(
    questions: Sequence[Question],
    embedder: OnnxEmbedder,
    index: VectorIndex,
    reranker: MaxSimReranker,
) -> None:
    """Interleaved rounds; a round's figure is its median over the questions."""
    chosen = random.Random(SEED).sample(questions, TIMED_QUESTIONS)
    found = [search(question, embedder, index) for question in chosen]
    calls: dict[str, Call] = {
        "embed and search": lambda question, _: search(question, embedder, index)
    }
    for candidates in CANDIDATES:
        stage = SecondStage(reranker, candidates)
        calls[f"MaxSim over {candidates}"] = partial(rerank, stage=stage)
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times = [milliseconds(call, q, hits) for q, hits in zip(chosen, found, strict=True)]
            rounds[name].append(statistics.median(times))
    print()
    for name, values in rounds.items():
        middle = statistics.median(values)
        print(f"{name:18} {middle:.1f} ms a question ({min(values):.1f} to {max(values):.1f})")


def milliseconds(call: Call, question: Question, hits: list[Hit]) -> float:
    started = time.perf_counter()
    call(question, hits)
    return (time.perf_counter() - started) * 1e3


def _unique_bodies(rows: Sequence[dict[str, str]]) -> set[str]:
    times = Counter(row["body"] for row in rows)
    return {row["id"] for row in rows if times[row["body"]] == 1}


if __name__ == "__main__":
    main()
