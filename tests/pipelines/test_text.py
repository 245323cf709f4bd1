"""HTML and Markdown as a reader sees them, and cut by the real splitter."""

import pytest

from pipelines.chunking import token_chunker
from pipelines.sources.text import plain_text, text_recipe


def html(body):
    return plain_text(body, "html")


def markdown(text):
    return plain_text(text, "markdown")


def test_plain_text_is_the_value_itself_whatever_it_looks_like():
    value = "  <b>not bold</b> &amp;\r\n# not a heading\x00 "
    assert plain_text(value, "plain") == value
    assert text_recipe("plain") == {}


@pytest.mark.parametrize(
    "dropped",
    [
        "<script>drop()</script>", "<style>.drop{}</style>", "<nav>drop</nav>", "<!-- drop -->",
        "<noscript>drop</noscript>", "<template>drop</template>", "<svg><text>drop</text></svg>",
        "<div hidden>drop</div>", "<p aria-hidden='true'>drop</p>", "<button>drop</button>",
        "<div role='navigation'><p>drop</p></div>", "<select><option>drop</option></select>",
    ],
)  # fmt: skip
def test_what_no_reader_reads_is_dropped_and_what_stands_around_it_stays(dropped):
    page = f"<html><head><title>drop</title></head><body>one{dropped}<p>two</p></body></html>"
    assert html(page) == "one\n\ntwo"


def test_entities_are_decoded_once():
    assert html("caf&eacute; &lt;b&gt; &amp;amp; &#x1F642; a&nbsp;b") == "café <b> &amp; 🙂 a\xa0b"
    assert markdown("caf&eacute; &lt;b&gt; `&lt;`") == "café <b> &lt;"


def test_white_space_is_what_a_browser_shows():
    assert html("<p> one\n  <b>two </b>three<i>four</i>\t five<br>six<br><br>seven </p>") == (
        "one two threefour five\nsix\n\nseven"
    )


def test_code_keeps_its_lines_and_spaces_and_loses_no_entity():
    code = "def f(a):\n\n    return a < 1 &amp;&amp; b\n"
    assert html(f"<p>run</p><pre><code>{code}</code></pre><p>done</p>") == (
        "run\n\ndef f(a):\n\n    return a < 1 && b\n\ndone"
    )
    assert markdown("run\n\n```python\nif x:\n\n    y <z>\n```\ndone") == (
        "run\n\nif x:\n\n    y <z>\n\ndone"
    )


def test_lists_and_tables_keep_their_items_and_cells_apart():
    nested = "<ul><li>a<li><p>b</p><ol><li>c</li><li>d</li></ol></li></ul>end"
    assert html(nested) == "- a\n- b\n1. c\n2. d\n\nend"
    assert markdown("| a | b |\n|---|---|\n| 1 | 2 |\n") == "a | b\n1 | 2"


def test_headings_have_the_more_breaks_before_them_the_higher_they_are_and_one_after():
    page = "<p>intro</p><h1>A</h1><p>a</p><h2>B</h2><p>b</p><h3>C</h3><p>c</p>"
    assert html(page) == "intro\n\n\n\n\nA\na\n\n\n\nB\nb\n\n\nC\nc"
    assert html("<h1>A</h1><h2>B</h2><p>b</p>") == "A\nB\nb"
    assert markdown("intro\n# A\na\n## B\nb\n### C\nc") == html(page)


def test_the_splitter_cuts_before_headings_and_keeps_each_with_its_section():
    sections = "".join(
        f"<h2>Topic {n}</h2><p>{'alpha ' * 8}</p><p>{'beta ' * 8}</p>" for n in range(4)
    )
    text = html(sections)
    chunks = token_chunker(None, 20)(text)
    assert [chunk.text.split("\n")[0] for chunk in chunks] == [f"Topic {n}" for n in range(4)]
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


def test_offsets_count_in_the_extracted_text_which_the_recipe_says():
    source = "<p>before</p><p>caf&eacute; &amp; bar</p>"
    text = html(source)
    start = text.index("café")
    assert text[start : start + 10] == "café & bar"
    assert source[start : start + 10] != "café & bar"
    assert text_recipe("html") == {"html_text": 1}
    assert text_recipe("markdown") == {"markdown_text": 1}


def test_front_matter_is_dropped_and_a_rule_at_the_head_is_not_front_matter():
    assert markdown("---\ntitle: x\n---\nbody") == "body"
    assert markdown("---\n\nbody without an end") == "body without an end"


def test_html_within_markdown_is_read_as_html():
    assert markdown("a <b>bold</b> word\n\n<script>drop()</script>\n\nend") == "a bold word\n\nend"


@pytest.mark.parametrize("depth", [1, 40, 97, 98, 99, 100, 101, 2000])
def test_no_word_is_lost_however_deep_it_is_nested(depth):
    assert "deep words" in markdown(">" * depth + " deep words")
    assert html("<div>" * depth + "deep words" + "</div>" * depth) == "deep words"
    lists = "".join(f"{'  ' * n}- x{n}\n" for n in range(min(depth, 120)))
    assert markdown(lists).count("x") == min(depth, 120)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("", ""), ("   ", ""), ("<p>open <b>never closed", "open never closed"),
        ("</div></p>closed twice", "closed twice"), ("just text", "just text"),
        ("a<", "a<"), ("a \x00 b", "a \ufffd b"), ("<p", ""),
    ],
)  # fmt: skip
def test_broken_html_reads_as_browsers_read_it(broken, expected):
    assert html(broken) == expected
