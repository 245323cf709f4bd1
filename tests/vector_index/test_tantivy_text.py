"""What only full text on disk can promise: generations that share files and do not disturb."""

import json
import shutil

import pytest

from vector_index.errors import FullTextFailed, IndexCorrupt
from vector_index.fulltext import dead_share, extend_fulltext, open_fulltext
from vector_index.passages import Access, Passage, passages_to_table

STAFF = Access("acme", frozenset({"staff"}))


def table(**texts):
    return passages_to_table(
        [Passage(key, 0, "", text, 0, 1, "h", "acme", ("staff",)) for key, text in texts.items()],
        {},
    )


def extend(folder, parent=None, gone=(), **texts):
    extend_fulltext(folder, parent=parent, passages=table(**texts), gone=gone)
    return folder


def find(folder_or_text, word):
    text = folder_or_text
    if not hasattr(text, "search"):
        text = open_fulltext(text, has_tenant=True, has_groups=True)
    hits = text.search(word, 100, access=STAFF, is_allowed=lambda *_: True)
    return sorted(hit.document_id for hit in hits)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def segments(folder):
    return json.loads((folder / "meta.json").read_text())["segments"]


def test_a_parent_stays_byte_for_byte_while_its_descendants_change_and_merge(tmp_path):
    first = extend(tmp_path / "0", a="cat", b="cat")
    before = contents(first)
    reader = open_fulltext(first, has_tenant=True, has_groups=True)
    for number in range(1, 12):
        extend(tmp_path / str(number), tmp_path / str(number - 1), gone=["b"], a=f"dog {number}")
    assert contents(first) == before
    assert find(reader, "cat") == find(first, "cat") == ["a", "b"]
    assert find(tmp_path / "11", "cat") == []
    assert find(tmp_path / "11", "dog") == ["a"]


def test_a_child_shares_its_parents_segment_files_and_copies_what_is_replaced(tmp_path):
    parent = extend(tmp_path / "0", a="cat")
    child = extend(tmp_path / "1", parent, b="dog")
    shared = {p.name for p in parent.iterdir() if (child / p.name).stat().st_ino == p.stat().st_ino}
    unshared = {path.name for path in parent.iterdir()} - shared
    assert unshared == {"meta.json", ".managed.json", "lengths.json"}


def test_two_children_of_one_parent_do_not_meet(tmp_path):
    parent = extend(tmp_path / "0", a="cat")
    extend(tmp_path / "1", parent, b="cat")
    extend(tmp_path / "2", parent, gone=["a"], c="cat")
    assert find(tmp_path / "1", "cat") == ["a", "b"]
    assert find(tmp_path / "2", "cat") == ["c"]


def test_locks_left_by_a_crashed_writer_block_nobody_and_are_not_inherited(tmp_path):
    parent = extend(tmp_path / "0", a="cat")
    for name in (".tantivy-writer.lock", ".tantivy-meta.lock"):
        (parent / name).touch()
    child = extend(tmp_path / "1", parent, b="cat")
    assert find(parent, "cat") == ["a"]
    assert find(child, "cat") == ["a", "b"]
    assert not list(child.glob("*.lock"))


def test_a_draft_that_crashed_half_way_can_be_dropped_and_made_again(tmp_path):
    parent = extend(tmp_path / "0", a="cat")
    before = contents(parent)
    draft = extend(tmp_path / "draft", parent, b="cat")
    for path in draft.iterdir():
        if path.name != "meta.json":
            path.unlink()
    shutil.rmtree(draft)
    assert contents(parent) == before
    assert find(extend(tmp_path / "draft", parent, b="cat"), "cat") == ["a", "b"]


def test_opening_leaves_the_folder_as_it_is(tmp_path):
    folder = extend(tmp_path / "0", a="cat")
    before = contents(folder)
    assert find(folder, "cat") == ["a"]
    assert contents(folder) == before


def test_an_opened_text_outlives_its_folder(tmp_path):
    folder = extend(tmp_path / "0", a="cat", b="cat dog")
    text = open_fulltext(folder, has_tenant=True, has_groups=True)
    shutil.rmtree(folder)
    assert find(text, "cat") == ["a", "b"]
    assert find(text, "dog") == ["b"]


def test_the_number_of_segments_stays_bounded_over_many_generations(tmp_path):
    extend(tmp_path / "0", **{f"d{n}": "cat" for n in range(50)})
    most = 0
    for number in range(1, 30):
        folder = tmp_path / str(number)
        extend(folder, tmp_path / str(number - 1), **{f"d{number}": "cat"})
        shutil.rmtree(tmp_path / str(number - 1))
        most = max(most, len(segments(folder)))
        files = {path.name.split(".")[0] for path in folder.iterdir()} - {"", "meta", "lengths"}
        assert files == {entry["segment_id"].replace("-", "") for entry in segments(folder)}
    assert most < 8
    assert len(find(folder, "cat")) == 50


def test_the_dead_share_counts_what_is_deleted_and_still_there(tmp_path):
    parent = extend(tmp_path / "0", a="cat", b="cat", c="cat", d="cat")
    child = extend(tmp_path / "1", parent, gone=["a"])
    assert (dead_share(parent), dead_share(child)) == (0.0, 0.25)
    assert dead_share(extend(tmp_path / "empty")) == 0.0


def test_the_same_change_gives_the_same_scores_every_time(tmp_path):
    texts = {f"d{n}": f"cat {'dog ' * (n % 7)}" for n in range(40)}
    runs = []
    for run in range(2):
        parent = extend(tmp_path / f"{run}-0", **texts)
        text = open_fulltext(
            extend(tmp_path / f"{run}-1", parent, gone=["d3"], d4="cat"),
            has_tenant=True,
            has_groups=True,
        )
        runs.append(text.search("cat dog", 40, access=STAFF, is_allowed=lambda *_: True))
    assert runs[0] == runs[1]


def test_statistics_are_those_of_the_passages(tmp_path):
    parent = extend(tmp_path / "0", a="cat dog", b="cat")
    text = open_fulltext(
        extend(tmp_path / "1", parent, c="bird bird bird"), has_tenant=True, has_groups=True
    )
    assert (text.passages, text.average_length("text"), text.average_length("title")) == (3, 2, 0)
    assert [text.passages_with("text", term) for term in ("cat", "bird", "fish")] == [2, 1, 0]


def test_a_damaged_folder_is_refused_by_name(tmp_path):
    folder = extend(tmp_path / "0", a="cat")
    next(folder.glob("*.term")).unlink()
    with pytest.raises(IndexCorrupt, match=str(folder)):
        open_fulltext(folder, has_tenant=True, has_groups=True)
    with pytest.raises(IndexCorrupt, match="missing"):
        open_fulltext(tmp_path / "missing", has_tenant=True, has_groups=True)


def test_a_damaged_parent_makes_no_child(tmp_path):
    parent = extend(tmp_path / "0", a="cat")
    (parent / "meta.json").write_text("{")
    with pytest.raises(FullTextFailed, match="could not be written"):
        extend(tmp_path / "1", parent, b="cat")


def test_thousands_of_equal_scores_are_not_all_read_to_order_a_few(tmp_path):
    folder = extend(tmp_path / "0", **{f"d{n}": "cat" for n in range(3000)})
    asked = []
    hits = open_fulltext(folder, has_tenant=True, has_groups=True).search(
        "cat", 5, access=STAFF, is_allowed=lambda *key: not asked.append(key)
    )
    assert len(hits) == 5
    assert 1000 <= len(asked) < 1100
