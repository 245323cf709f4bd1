"""The chunk+embed step as a pure function, its engines, and what travels between processes."""

import sys

import numpy as np
import pyarrow as pa
import pytest
from worlds import MAPPING, World, rows

from llm_endpoint.embedding.hashing import HashingEmbedder
from pipelines.chunking import token_chunker
from pipelines.engines import LocalEngine
from pipelines.engines.messages import failed_row, made_of, made_row, work_of, work_row
from pipelines.engines.ray_data import RayEngine
from pipelines.errors import BadRow, EmbedderStuck, EngineFailed, MissingExtra
from pipelines.step import Recipe, cut, embed
from pipelines.sync import sync

CHUNK = token_chunker(None, 3)
RECIPE = Recipe(MAPPING, {"kind": "string", "views": "int"}, 16, isolates=True)


class Fussy(HashingEmbedder):
    def embed_passages(self, texts, *, on_progress=None):
        if any("poison" in text for text in texts):
            raise RuntimeError("cannot")
        return super().embed_passages(texts, on_progress=on_progress)


EMBEDDER = Fussy(16)


def batch(keys, body="original"):
    return rows(keys, body).combine_chunks().to_batches()[0]


def made(rows, known=None):
    return embed(cut(rows, RECIPE, CHUNK), known or {}, RECIPE, EMBEDDER)


def first(table):
    return {name: table[name][0] for name in table.column_names}


def assert_same(one, other):
    assert (one.keys, one.refused, one.embedded) == (other.keys, other.refused, other.embedded)
    assert one.passages.equals(other.passages)
    np.testing.assert_array_equal(one.vectors, other.vectors)


def test_a_batch_becomes_the_same_whatever_else_has_been_made():
    whole = made(batch(["1", "2", "3"]))
    parts = [made(batch([key])) for key in ("1", "2", "3")]
    assert whole.keys == ("1", "2", "3")
    assert whole.passages.equals(pa.concat_tables([part.passages for part in parts]))
    np.testing.assert_array_equal(whole.vectors, np.concatenate([p.vectors for p in parts]))


def test_a_known_vector_is_taken_as_it_is_and_its_text_not_embedded():
    text_hash = cut(batch(["1"]), RECIPE, CHUNK).passages["text_hash"][0].as_py()
    vector = np.full(16, 0.25, np.float32)
    plain, reused = made(batch(["1"])), made(batch(["1"]), {text_hash: vector})
    assert reused.embedded == plain.embedded - 1
    np.testing.assert_array_equal(reused.vectors[0], vector)
    np.testing.assert_array_equal(reused.vectors[1:], plain.vectors[1:])


def test_documents_that_cannot_be_made_are_refused_and_leave_nothing_behind():
    mixed = pa.concat_tables([rows(["1"]), rows(["bad"], "poison"), rows(["2"])])
    found = made(mixed.combine_chunks().to_batches()[0])
    assert found.keys == ("1", "2")
    assert set(found.passages["document_id"].to_pylist()) == {"1", "2"}
    assert len(found.vectors) == found.passages.num_rows
    assert [(row.key, row.reason) for row in found.refused] == [("bad", "embedder_failed")]


def test_what_is_made_elsewhere_comes_back_as_it_was():
    mixed = pa.concat_tables([rows(["1", "2"]), rows(["bad"], "poison")])
    sent = mixed.combine_chunks().to_batches()[0]
    hashes = cut(sent, RECIPE, CHUNK).passages["text_hash"].to_pylist()
    known = {hashes[0]: np.full(16, 0.25, np.float32)}
    received, vectors = work_of(work_row(sent, known))
    assert received.equals(sent)
    np.testing.assert_array_equal(vectors[hashes[0]], known[hashes[0]])
    here = made(sent, known)
    assert_same(made_of(first(made_row(here)), 16), here)


def test_a_batch_without_rows_travels_too():
    sent = batch(["1"]).slice(0, 0)
    received, known = work_of(work_row(sent, {}))
    assert (received.num_rows, received.schema, known) == (0, sent.schema, {})
    assert_same(made_of(first(made_row(made(received))), 16), made(sent))


@pytest.mark.parametrize(
    ("raised", "comes_back"),
    [
        (BadRow("row 7"), BadRow),
        (EmbedderStuck("hot"), EmbedderStuck),
        (KeyError("k"), EngineFailed),
    ],
)
def test_an_error_elsewhere_comes_back_by_its_name(raised, comes_back):
    with pytest.raises(comes_back, match=str(raised)):
        made_of(first(failed_row(raised)), 16)


def test_a_text_that_was_made_lately_is_not_embedded_again():
    engine = LocalEngine(EMBEDDER, CHUNK)
    batches = iter([batch(["1", "2"]), batch(["2", "3"])])
    one, other = engine.run(batches, RECIPE, known=None)
    before, after = (set(m.passages["text_hash"].to_pylist()) for m in (one, other))
    assert before & after
    assert other.embedded == len(after - before)
    np.testing.assert_array_equal(other.vectors, made(batch(["2", "3"])).vectors)


def test_rows_that_an_engine_does_not_give_back_are_not_silently_missing(tmp_path):
    class Lossy(LocalEngine):
        def run(self, batches, recipe, *, known, on_share=None):
            yield from list(super().run(batches, recipe, known=known))[1:]

    world = World(tmp_path)
    lossy = Lossy(world.embedder, world.chunk)
    with pytest.raises(EngineFailed, match="did not come back"):
        sync(world.source, world.index, world.embedder, world.chunk, engine=lossy)
    assert not (tmp_path / "index" / "CURRENT").exists()


def test_ray_that_is_not_installed_is_an_error_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'headrace\[ray\]'"):
        RayEngine(lambda: (EMBEDDER, CHUNK), CHUNK)
