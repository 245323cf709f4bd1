"""One suite for every FullText, against BM25 computed by hand."""

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vector_index.fulltext import MemoryText, extend_fulltext, open_fulltext
from vector_index.passages import Access, Passage, passages_to_table

STAFF = Access("acme", frozenset({"staff"}))


def passage(key, text, *, title="", ordinal=0, tenant="acme", groups=("staff",)):
    return Passage(key, ordinal, title, text, 0, len(text), "h", tenant, groups)


def anything(document_id, ordinal):
    return True


class InMemory:
    def __init__(self, restricted=True):
        self.text = MemoryText(has_tenant=restricted, has_groups=restricted)

    def apply(self, passages, gone=()):
        self.text.remove([*gone, *(p.document_id for p in passages)])
        self.text.add(passages)


class OnDisk:
    """Every change is a new generation of the one before."""

    def __init__(self, home, restricted=True):
        self.home, self.number, self.restricted = home, 0, restricted
        self.apply([])

    def apply(self, passages, gone=()):
        parent = self.home / str(self.number) if self.number else None
        self.number += 1
        folder = self.home / str(self.number)
        extend_fulltext(folder, parent=parent, passages=passages_to_table(passages, {}), gone=gone)
        self.text = open_fulltext(folder, has_tenant=self.restricted, has_groups=self.restricted)


@pytest.fixture(params=["memory", "tantivy"])
def made(request, tmp_path):
    return InMemory() if request.param == "memory" else OnDisk(tmp_path)


@pytest.fixture(params=["memory", "tantivy"])
def unrestricted(request, tmp_path):
    return InMemory(False) if request.param == "memory" else OnDisk(tmp_path, False)


def find(made, text, k=10, *, access=STAFF, is_allowed=anything):
    return made.text.search(text, k, access=access, is_allowed=is_allowed)


def ids(hits):
    return [hit.document_id for hit in hits]


def scores(hits):
    return [hit.score for hit in hits]


def test_hits_come_best_first_with_their_bm25(made):
    made.apply(
        [passage("a", "cat sat mat"), passage("b", "cat cat dog bird"), passage("c", "fish")]
    )
    hits = find(made, "cat")
    # N 3, df 2: idf ln(1 + 1.5/2.5) = 0.4700; lengths 3 and 4, average 8/3.
    # b: 0.4700 * 2.2 * 2 / (2 + 1.2 * (0.25 + 0.75 * 1.5)) = 0.5666
    # a: 0.4700 * 2.2 * 1 / (1 + 1.2 * (0.25 + 0.75 * 1.125)) = 0.4471
    assert ids(hits) == ["b", "a"]
    assert scores(hits) == pytest.approx([0.56658, 0.44714], abs=1e-4)


def test_the_terms_of_a_question_add_up_and_none_is_required(made):
    made.apply(
        [passage("a", "cat sat mat"), passage("b", "cat cat dog bird"), passage("c", "fish")]
    )
    hits = find(made, "cat, fish or unicorn")
    # fish: df 1, idf ln(1 + 2.5/1.5) = 0.98083; length 1:
    # c: 0.98083 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 0.375)) = 1.31776
    assert ids(hits) == ["c", "b", "a"]
    assert scores(hits) == pytest.approx([1.31776, 0.56658, 0.44714], abs=1e-4)
    assert scores(find(made, "fish mat"))[0] == pytest.approx(1.31776, abs=1e-4)


def test_a_title_is_a_field_of_its_own_and_its_score_is_added(made):
    made.apply([passage("a", "dog", title="cat"), passage("b", "cat", title="cat")])
    hits = find(made, "cat")
    # title: df 2 of 2, idf ln(1 + 0.5/2.5) = 0.18232; text: df 1, idf ln 2 = 0.69315; every
    # length is the average, so 2.2 * 1 / (1 + 1.2) = 1.
    assert ids(hits) == ["b", "a"]
    assert scores(hits) == pytest.approx([0.18232 + 0.69315, 0.18232], abs=1e-4)


def test_equal_scores_are_ordered_by_document_and_ordinal_whatever_came_first(made):
    made.apply([passage("c", "cat"), passage("a", "cat", ordinal=1), passage("a", "cat")])
    made.apply([passage("b", "cat")])
    made.apply([passage("c", "cat")])
    hits = find(made, "cat", k=3)
    assert [(h.document_id, h.ordinal) for h in hits] == [("a", 0), ("a", 1), ("b", 0)]


def test_k_bounds_the_number_of_hits(made):
    made.apply([passage(f"d{n}", "cat " + "dog " * n) for n in range(9)])
    assert ids(find(made, "cat", k=2)) == ["d0", "d1"]
    assert find(made, "cat", k=0) == []
    assert len(find(made, "cat", k=10**9)) == 9


def test_a_removed_document_is_not_found_and_the_others_are(made):
    made.apply([passage("a", "cat"), passage("a", "cat", ordinal=1), passage("b", "cat")])
    made.apply([], gone=["a", "never there"])
    assert ids(find(made, "cat")) == ["b"]


def test_a_replaced_document_is_found_by_its_new_words_only(made):
    made.apply([passage("a", "old"), passage("a", "old", ordinal=1), passage("b", "old")])
    made.apply([passage("a", "new")])
    assert ids(find(made, "old")) == ["b"]
    assert ids(find(made, "new")) == ["a"]


def test_a_passage_is_found_only_by_its_tenant_and_groups(made):
    made.apply(
        [
            passage("ours", "cat", groups=("staff", "board")),
            passage("board", "cat", groups=("board",)),
            passage("theirs", "cat", tenant="other"),
            passage("nobody's", "cat", tenant=None),
            passage("no group's", "cat", groups=()),
            passage("null groups", "cat", groups=None),
        ]
    )
    assert ids(find(made, "cat")) == ["ours"]
    assert ids(find(made, "cat", access=Access("acme", frozenset({"board"})))) == ["board", "ours"]
    assert ids(find(made, "cat", access=Access("other", frozenset({"staff"})))) == ["theirs"]
    assert find(made, "cat", access=Access("acme", frozenset())) == []
    assert find(made, "cat", access=Access("", frozenset({"staff"}))) == []


def test_a_text_without_access_columns_is_open_to_all(unrestricted):
    unrestricted.apply([passage("a", "cat", tenant=None, groups=None)])
    assert ids(find(unrestricted, "cat", access=Access("any", frozenset()))) == ["a"]


def test_as_many_hits_as_are_allowed_come_back_however_many_are_not(made):
    made.apply([passage(f"d{n:03}", "cat " + "dog " * (n % 30)) for n in range(300)])
    # The allowed ones have the lowest scores: 30 words each.
    last = {f"d{n:03}" for n in range(300) if n % 30 == 29}
    hits = find(made, "cat", k=7, is_allowed=lambda key, _: key in last)
    assert ids(hits) == sorted(last)[:7]
    assert ids(find(made, "cat", k=50, is_allowed=lambda key, _: key in last)) == sorted(last)
    assert find(made, "cat", k=7, is_allowed=lambda *_: False) == []


def test_the_allowed_question_is_asked_about_the_passage(made):
    made.apply([passage("a", "cat"), passage("a", "cat", ordinal=1)])
    hits = find(made, "cat", is_allowed=lambda key, ordinal: (key, ordinal) == ("a", 1))
    assert [(h.document_id, h.ordinal) for h in hits] == [("a", 1)]


def test_identifiers_are_found_whole_and_by_their_parts(made):
    made.apply([passage("a", "use csv.DictReader"), passage("b", "a reader of mail")])
    assert ids(find(made, "DictReader")) == ["a", "b"]
    assert ids(find(made, "dict_reader")) == ["a", "b"]
    assert ids(find(made, "dictreader")) == ["a"]


def test_words_of_any_script_are_found(made):
    made.apply([passage("ru", "Москва слезам"), passage("ja", "全文検索"), passage("é", "café 🙂")])
    assert ids(find(made, "Москва".upper())) == ["ru"]
    assert ids(find(made, "検索")) == ["ja"]
    assert ids(find(made, "cafe\u0301")) == ["é"]


@pytest.mark.parametrize("text", ["", "   ", "!?", "🙂", "\x00", "\ud800", '""', "* - ~"])
def test_a_question_without_a_word_finds_nothing(made, text):
    made.apply([passage("a", "cat")])
    assert find(made, text) == []


def test_an_empty_text_finds_nothing(made):
    assert find(made, "cat") == []


@pytest.mark.parametrize(
    "text",
    [
        'text:cat', 'tenant:other OR "cat"', "-cat", "+cat -cat", '"cat', "cat^9", "cat~1", "cat)",
        "(((((((cat", "cat\\", "/cat/", "[cat TO *}", "title:(cat", "cat\x00", "cat\ud800",
        "NOT cat", "cat IN [", "*:* cat", "key:cat", "cat" + " x" * 500_000, "'cat'; DROP",
    ],
)  # fmt: skip
def test_query_syntax_is_only_words(made, text):
    made.apply([passage("a", "cat"), passage("theirs", "other text", tenant="other")])
    assert ids(find(made, text)) == ["a"]


def test_ids_tenants_and_groups_hold_any_text(made):
    keys = ["a b", "a\x00b", "ключ", "x" * 100_000, "'\"\\:*"]
    made.apply([passage(key, "cat", tenant=key[:500], groups=(key[:500],)) for key in keys])
    for key in keys:
        access = Access(key[:500], frozenset({key[:500]}))
        assert ids(find(made, "cat", access=access)) == [key]
    made.apply([], gone=keys)
    assert not any(find(made, "cat", access=Access(k[:500], frozenset({k[:500]}))) for k in keys)


WORDS = st.sampled_from(["cat", "dog", "DictReader", "reader", "csv", "AND", "ß", "検索", '"', ":"])
TEXT = st.lists(WORDS, max_size=10).map(" ".join)
PASSAGES = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(PASSAGES, st.one_of(TEXT, st.text(st.characters())), st.integers(1, 14))
def test_disk_and_memory_agree_on_every_hit_and_score(texts, question, k):
    passages = [passage(f"d{n}", text, title=title) for n, (title, text) in enumerate(texts)]
    memory = InMemory()
    memory.apply(passages)
    with tempfile.TemporaryDirectory() as home:
        disk = OnDisk(Path(home))
        disk.apply(passages)
        found, expected = find(disk, question, k=14), find(memory, question, k=14)
        assert len(find(disk, question, k=k)) == min(k, len(expected))
    by_key = {hit.document_id: hit.score for hit in expected}
    assert by_key == pytest.approx({hit.document_id: hit.score for hit in found}, abs=1e-4)
    # Sums of 32-bit scores may order two hits otherwise that differ by less than their rounding.
    assert all(
        by_key[a.document_id] >= by_key[b.document_id] - 1e-4 for a, b in itertools.pairwise(found)
    )
