"""The embedding server against sentence-transformers, against the machine, and beside itself.

isolation  p50 of one question through the server, idle and while a bulk caller embeds without a
           pause; and the bulk's texts a second, alone and with a question every 20 ms (goal: p50
           beside bulk at most 1.5 times idle)
rival      texts a second of mixed lengths (3 to 256 tokens), bulk: ours, and sentence-transformers'
           `encode` as it comes with the float32 weights of the same model, in a process of its own
           ($HEADRACE_ST_PYTHON; both with all cores), in turn (goal: 2 times, cosine 0.99)
limit      the multiplications of our matrices, done with NumPy's float32 sgemm at the sizes of our
           batches, nothing else: what share of that speed the encoder has (goal: 0.5). int8 could
           be faster than float32, so the true limit lies higher.

Five rounds in turn; median and spread.
"""

import argparse
import json
import os
import pydoc_data.topics
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from headrace import assembly
from headrace.settings import Settings, load_settings
from llm_endpoint import find_card, pull
from llm_endpoint.embedding.batching import batches
from llm_endpoint.embedding.encoder import Tokens
from llm_endpoint.embedding.server import EmbeddingServer

ROUNDS = 5
TEXTS = 384
QUESTIONS = 100
SEED = 20261125
# all-MiniLM-L6-v2: layers, width, width of the feed-forward part.
LAYERS, WIDTH, INNER = 6, 384, 1536

_RIVAL = """
import json, sys, time
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
texts = json.loads(sys.stdin.readline())
model.encode(texts[:32])
print("ready", flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    vectors = model.encode(texts, normalize_embeddings=True)
    taken = time.perf_counter() - started
    print(json.dumps({"taken": taken, "vectors": vectors.tolist()}), flush=True)
"""


def texts_of(count: int) -> list[str]:
    """Pieces of Python's documentation, 2 to 220 words, most of them short."""
    rng = random.Random(SEED)
    words = " ".join(pydoc_data.topics.topics.values()).split()
    made = []
    for _ in range(count):
        length = min(220, 2 + int(rng.expovariate(1 / 60)))
        start = rng.randrange(len(words) - length)
        made.append(" ".join(words[start : start + length]))
    return made


def shown(values: Sequence[float], unit: str, digits: int = 1) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f})"


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def question_times(server: EmbeddingServer, questions: Sequence[str]) -> list[float]:
    """Milliseconds of each, with 20 ms between them, and never the same one twice."""
    taken = []
    for question in questions:
        taken.append(1000 * timed(lambda q=question: server.embed_queries([q])))
        time.sleep(0.02)
    return taken


def isolation(settings: Settings) -> None:
    server = assembly.build_embedding_server(settings, _embedder(settings))
    texts = texts_of(TEXTS)
    idle, beside, alone, with_questions = [], [], [], []
    for number in range(ROUNDS):
        asked = [f"how do I read file {number} {n} into a dictionary" for n in range(2 * QUESTIONS)]
        idle.append(statistics.median(question_times(server, asked[:QUESTIONS])))
        alone.append(TEXTS / timed(lambda: server.bulk.embed_passages(texts)))
        stop, done = threading.Event(), [0]

        def bulk(stop: threading.Event = stop, done: list[int] = done) -> None:
            while not stop.is_set():
                server.bulk.embed_passages(texts[:128])
                done[0] += 128

        thread = threading.Thread(target=bulk)
        started = time.perf_counter()
        thread.start()
        beside.append(statistics.median(question_times(server, asked[QUESTIONS:])))
        stop.set()
        thread.join()
        with_questions.append(done[0] / (time.perf_counter() - started))
    server.close()
    ratios = [b / i for b, i in zip(beside, idle, strict=True)]
    print(f"isolation: question p50 idle {shown(idle, 'ms')}, beside bulk {shown(beside, 'ms')}, "
          f"ratio {shown(ratios, 'times', 2)}")  # fmt: skip
    print(f"           bulk alone {shown(alone, 'texts/s', 0)}, with 50 questions a second at most "
          f"{shown(with_questions, 'texts/s', 0)}")  # fmt: skip


def rival(settings: Settings) -> None:
    python = os.environ.get("HEADRACE_ST_PYTHON")
    if not python:
        print("rival: HEADRACE_ST_PYTHON is not set; `make test-components` makes that environment")
        return
    folder = pull(find_card("all-minilm-l6-v2"), settings.weights)
    texts = texts_of(TEXTS)
    ours = assembly.build_embedding_server(settings, _embedder(settings))
    with subprocess.Popen(
        [python, "-c", _RIVAL, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"} | _all_cores(),
    ) as other:  # fmt: skip
        assert other.stdin is not None
        assert other.stdout is not None
        print(json.dumps(texts), file=other.stdin, flush=True)
        other.stdout.readline()
        mine, theirs, cosine = [], [], 0.0
        ours.bulk.embed_passages(texts[:32])
        for _ in range(ROUNDS):
            started = time.perf_counter()
            vectors = ours.bulk.embed_passages(texts)
            mine.append(TEXTS / (time.perf_counter() - started))
            print("go", file=other.stdin, flush=True)
            said = json.loads(other.stdout.readline())
            theirs.append(TEXTS / said["taken"])
            cosine = float(np.sum(vectors * np.array(said["vectors"], np.float32), axis=1).min())
        other.stdin.close()
    ours.close()
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    print(f"rival: ours {shown(mine, 'texts/s', 0)}, sentence-transformers "
          f"{shown(theirs, 'texts/s', 0)}, ratio {shown(ratios, 'times', 2)}; "
          f"cosine {cosine:.4f} at least")  # fmt: skip


def _all_cores() -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(os.cpu_count())}


def limit(settings: Settings) -> None:
    encoder = assembly.build_encoder(settings, _embedder(settings))
    tokens = encoder.tokens_of_texts(texts_of(TEXTS))
    groups = [[tokens[at] for at in positions] for positions in batches(tokens)]
    shares = []
    for _ in range(ROUNDS):
        ours = timed(lambda: [encoder.encode(group) for group in groups])
        shares.append(timed(lambda: [_multiply(group) for group in groups]) / ours)
    encoder.close()
    print(f"limit: the encoder has {shown(shares, 'of the speed of its float32 products', 2)}")


def _multiply(group: Sequence[Tokens]) -> None:
    """The products of one batch through all layers, on matrices of its padded size."""
    texts, width = len(group), max(map(len, group))
    rows = texts * width
    states = np.ones((rows, WIDTH), np.float32)
    square, up = np.ones((WIDTH, WIDTH), np.float32), np.ones((WIDTH, INNER), np.float32)
    heads, of_head = 12, WIDTH // 12
    split = np.ones((texts * heads, width, of_head), np.float32)
    for _ in range(LAYERS):
        for _ in range(4):
            states @ square
        scores = split @ split.transpose(0, 2, 1)
        scores @ split
        states @ up @ up.T


def _embedder(settings: Settings) -> str:
    return settings.models_by_task["embedding"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = {"isolation": isolation, "rival": rival, "limit": limit}
    parser.add_argument("--only", choices=list(parts))
    only = parser.parse_args().only
    settings = load_settings()
    for name, part in parts.items():
        if only in (None, name):
            part(settings)


if __name__ == "__main__":
    main()
