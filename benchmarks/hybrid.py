"""Does hybrid search find more? Recall@10 and MRR@10 of ann, full_text and hybrid on the demo.

Needs the demo's index and weights (`make demo`). A question is the first sentence of a docstring
without the words of the documented name; the answer is that document alone. The sentence stands
in the document word for word, which favours full text, so two harder sets are made of the same
questions: half of the words kept, and a letter missing in every second long word. No model and
no person wrote or picked a question; the draws are seeded.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

from headrace import assembly, indexes
from headrace.settings import load_settings
from pipelines.demo_table import DEMO_TENANT, EVERYONE, MAINTAINERS, demo_rows
from rag_chain.retrieval import Lookup, Retriever
from vector_index.fulltext.tokens import tokens
from vector_index.passages import Access, Hit
from vector_index.query import QueryType

INDEX = "docs"
QUESTIONS = 100
FEWEST_WORDS = 6
K = 10
SEED = 20261124
ASKER = Access(DEMO_TENANT, frozenset({EVERYONE, MAINTAINERS}))

Search = Callable[[str], Sequence[Hit]]


def main() -> None:
    """Prints one line a set of questions and kind of search."""
    settings = load_settings()
    embedder = assembly.build_embedder(settings, "minilm")
    index = indexes.open_index(settings, INDEX, embedder)
    retriever = Retriever(index, embedder)
    searches = {mode: partial(search, retriever, mode) for mode in get_args(QueryType)}
    draw = random.Random(SEED)
    verbatim = draw_questions(draw)
    sets = {
        "verbatim": verbatim,
        "half the words": [(half(question, draw), key) for question, key in verbatim],
        "misspelt": [(misspelt(question, draw), key) for question, key in verbatim],
    }
    print(f"{QUESTIONS} questions, {len(index.documents())} documents, seed {SEED}")
    for name, questions in sets.items():
        print(f"  for example: {questions[0][0]!r}")
        for mode, searched in searches.items():
            recall, reciprocal = measure(searched, questions)
            print(f"{name:16} {mode:10} recall@{K} {recall:.2f}  MRR@{K} {reciprocal:.3f}")


def search(retriever: Retriever, mode: QueryType, question: str) -> Sequence[Hit]:
    """The K best hits of that kind of search."""
    return retriever.find(Lookup(question, K, ASKER, mode=mode)).hits


def draw_questions(draw: random.Random) -> list[tuple[str, str]]:
    """Question and document id, drawn from the sentences that open exactly one document."""
    opening = {str(row["id"]): first_sentence(str(row["body"])) for row in demo_rows()}
    times = Counter(opening.values())
    candidates = [
        (without_name(sentence, key), key)
        for key, sentence in sorted(opening.items())
        if times[sentence] == 1 and not re.search(r"[()*<>=]|->", sentence)
    ]
    candidates = [(q, key) for q, key in candidates if len(q.split()) >= FEWEST_WORDS]
    return draw.sample(candidates, QUESTIONS)


def first_sentence(body: str) -> str:
    """Up to the first full stop or empty line, on one line."""
    return " ".join(re.split(r"(?<=[.!?])\s|\n\s*\n", body.strip(), maxsplit=1)[0].split())


def without_name(sentence: str, name: str) -> str:
    """The sentence without the words that share a term with the documented name."""
    named = set(tokens(name))
    return " ".join(word for word in sentence.split() if named.isdisjoint(tokens(word)))


def half(question: str, draw: random.Random) -> str:
    """Half of the words, in their order."""
    words = question.split()
    kept = sorted(draw.sample(range(len(words)), (len(words) + 1) // 2))
    return " ".join(words[position] for position in kept)


def misspelt(question: str, draw: random.Random) -> str:
    """Every second word of five letters or more loses a letter that is not its first."""
    words = question.split()
    long = [position for position, word in enumerate(words) if len(word) >= 5]
    for position in long[::2]:
        letter = draw.randrange(1, len(words[position]))
        words[position] = words[position][:letter] + words[position][letter + 1 :]
    return " ".join(words)


def measure(search: Search, questions: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Share of questions whose document is among the first K hits, and the mean of 1/rank."""
    reciprocals = []
    for question, key in questions:
        owners = [hit.passage.document_id for hit in search(question)]
        reciprocals.append(1 / (owners.index(key) + 1) if key in owners else 0.0)
    found = sum(value > 0 for value in reciprocals)
    return found / len(reciprocals), sum(reciprocals) / len(reciprocals)


if __name__ == "__main__":
    main()
