"""A streaming runbook: insert, delete, replace and search in turn, as big-ann's streaming track.

Every search step holds the index to recall@10 >= 0.95 against brute force over what should be
there, and to never returning a deleted id, a document twice, or an old vector.
"""

import numpy as np
import pytest
from by_hand import EVERYONE, random_delta, random_settings, source

from vector_index.options import WriterOptions
from vector_index.tail import TailLimits
from vector_index.writer import IndexWriter

DIM, K = 24, 10


class Model:
    """What should be in the index, and clustered vectors as embedders make them."""

    def __init__(self):
        self.random = np.random.default_rng(7)
        self.centers = self.random.standard_normal((40, DIM))
        self.vectors = {}

    def draw(self, count):
        noise = self.random.standard_normal((count, DIM)) * 0.6
        vectors = self.centers[self.random.integers(0, 40, count)] + noise
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def put(self, ids):
        vectors = self.draw(len(ids))
        self.vectors.update(zip(ids, vectors, strict=True))
        change = random_delta(ids, dim=DIM)
        return type(change)(change.documents, change.passages, vectors, frozenset())

    def some(self, count):
        return self.random.choice(sorted(self.vectors), count, replace=False).tolist()


def check(index, model, step):
    queries = model.draw(50)
    ids = list(model.vectors)
    products = queries @ np.array([model.vectors[key] for key in ids]).T
    exact = -np.sort(-products, axis=1)[:, :K]
    found = index.search_many(queries, k=K, access=EVERYONE)
    recalls = []
    for number in range(len(queries)):
        answer = [passage.document_id for passage in found.passages(number)]
        assert len(set(answer)) == K, step
        assert model.vectors.keys() >= set(answer), step
        true = np.array([queries[number] @ model.vectors[key] for key in answer])
        assert found.scores[number] == pytest.approx(true, abs=1e-5), step
        recalls.append((true >= exact[number, -1] - 1e-6).mean())
    assert np.mean(recalls) >= 0.95, step


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_sq8", "hnsw", "auto"])
def test_every_search_of_a_runbook_is_right(tmp_path, kind):
    model = Model()
    settings = random_settings(kind, DIM)
    options = WriterOptions(tail=TailLimits(rows=700), is_synced=False)
    with IndexWriter(tmp_path / "docs", settings, options=options) as index:
        index.publish(model.put([f"base-{n}" for n in range(3000)]), source())
        check(index, model, "base")
        for step in range(12):
            index.upsert(model.put([f"{step}-{n}" for n in range(200)]))
            check(index, model, (step, "insert"))
            gone = model.some(150)
            index.delete(gone)
            for key in gone:
                del model.vectors[key]
            check(index, model, (step, "delete"))
            index.upsert(model.put(model.some(120)))
            check(index, model, (step, "replace"))
            if step % 4 == 3:
                index.flush()
                index._merging.wait()
        index.merge_now()
        check(index, model, "merged")
    with IndexWriter(tmp_path / "docs", settings) as again:
        check(again, model, "reopened")
