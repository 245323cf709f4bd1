"""Finding a document by its id in a segment: hashes, collisions, many at once."""

import numpy as np
import pyarrow as pa
import pytest

from vector_index import keys as module
from vector_index.keys import open_keys, write_keys


def written(folder, ids):
    write_keys(folder, ids)
    return open_keys(folder, pa.chunked_array([pa.array(ids, pa.string())]))


def test_every_id_is_found_where_it_is_and_no_other(tmp_path):
    ids = [f"id-{number}" for number in range(1000)] + ["", "ä", "\x00"]
    keys = written(tmp_path, ids)
    assert [keys.find(key) for key in ids] == list(range(len(ids)))
    assert keys.find("id-1000") == -1
    assert keys.find_many(ids).tolist() == list(range(len(ids)))
    assert keys.find_many(["nope"] * 20 + ids[5:9]).tolist() == [-1] * 20 + [5, 6, 7, 8]


@pytest.mark.parametrize("count", [1, 100])
def test_ids_that_share_a_hash_are_told_apart(tmp_path, monkeypatch, count):
    monkeypatch.setattr(module, "_digest", lambda key: bytes([len(key) % 3]) * 8)
    ids = [f"k{number}" for number in range(count)]
    keys = written(tmp_path, ids)
    assert keys.find_many(ids).tolist() == list(range(count))
    assert keys.find_many([f"x{number}" for number in range(100)]).max() == -1


def test_the_order_is_that_of_the_ids(tmp_path):
    ids = ["b", "", "ä", "a", "Z", "\U0001f600", "aa"]
    keys = written(tmp_path, ids)
    assert [ids[place] for place in keys.order] == sorted(ids)


def test_no_documents_means_nothing_is_found(tmp_path):
    keys = written(tmp_path, [])
    assert keys.find("a") == -1
    assert keys.find_many(["a"] * 20).tolist() == [-1] * 20
    assert keys.order.dtype == np.int64
