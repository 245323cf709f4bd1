"""The embedding server: many callers, two lanes, one answer."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from llm_endpoint import find_card
from llm_endpoint.embedding.direct import DirectEmbedder
from llm_endpoint.embedding.encoder import Tokens
from llm_endpoint.embedding.lane import LaneLimits
from llm_endpoint.embedding.onnx import OnnxEncoder
from llm_endpoint.embedding.prefixes import Prefixes
from llm_endpoint.embedding.protocol import EmbedderInfo
from llm_endpoint.embedding.server import EmbeddingServer
from llm_endpoint.errors import EngineBusy, EngineTimeout, EngineUnavailable, InvalidTokens

TEXTS = [f"text {'word ' * (n % 40)}{n}" for n in range(200)]
WAIT_S = 30


class GatedEncoder:
    """Vectors of a text's length; holds what it is told to hold until it is told to go on."""

    def __init__(self):
        self.info = EmbedderInfo("gated", "0" * 64, 2, 100, None)
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.seen, self.is_closed = [], False

    def tokens_of_texts(self, texts):
        return [Tokens([ord(character) for character in text], (0, len(text))) for text in texts]

    def tokens_of_ids(self, ids):
        return [Tokens(list(one), (0, len(one))) for one in ids]

    def encode(self, batch):
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        self.seen.append(["".join(map(chr, tokens.ids)) for tokens in batch])
        if any("poison" in text for text in self.seen[-1]):
            raise RuntimeError("poison")
        return np.array([[len(tokens), 1] for tokens in batch], np.float32)

    def encode_tokens(self, batch):
        return [np.ones((len(tokens), 2), np.float32) for tokens in batch]

    def close(self):
        self.is_closed = True

    def hold(self):
        self.gate.clear()
        self.entered.clear()


@pytest.fixture
def gated():
    """A server, and the encoders of its interactive and its bulk lane."""
    encoders = []

    def build():
        encoders.append(GatedEncoder())
        return encoders[-1]

    limits = LaneLimits(window=4, most_waiting=6)
    server = EmbeddingServer(build, interactive=limits, bulk=LaneLimits(window=4))
    yield server, *encoders
    for encoder in encoders:
        encoder.gate.set()
    server.close()
    assert all(encoder.is_closed for encoder in encoders)


@pytest.fixture(scope="module")
def real(weights_dir):
    card = find_card("all-minilm-l6-v2-int8")
    folder = weights_dir / card.name

    def build():
        return OnnxEncoder(
            folder / "model.onnx", folder / "tokenizer.json",
            id=card.name, weights_sha256=card.weights_sha256,
        )  # fmt: skip

    server = EmbeddingServer(build)
    direct = DirectEmbedder(build())
    yield server, direct
    server.close()
    direct.close()


def same(left, right):
    return np.sum(left * right, axis=1).min() > 0.9999


def test_callers_side_by_side_get_their_own_vectors_in_their_own_order(real):
    server, direct = real
    wanted = direct.embed_passages(TEXTS)

    def ask(number):
        rows = [(number * 13 + step) % len(TEXTS) for step in range(number % 5 * 9 + 1)]
        face = server.bulk if number % 3 == 0 else server
        return same(face.embed_passages([TEXTS[row] for row in rows]), wanted[rows])

    with ThreadPoolExecutor(16) as callers:
        assert all(callers.map(ask, range(48)))
    state = server.state()
    assert state.interactive.waiting == state.bulk.waiting == 0
    assert state.interactive.batches < state.interactive.texts
    assert state.bulk.texts > 0


def test_ids_of_the_models_own_tokenizer_are_the_text(real):
    server, direct = real
    ids = [[9631, 20116, 2615, 6764], [16457]]
    made = asyncio.run(server.embed(ids))
    assert same(made.vectors, direct.embed_passages(["reads csv files", "threads"]))
    assert made.tokens == 4 + 1 + 2 * 2
    with pytest.raises(InvalidTokens, match="input 1 has the token id -1"):
        asyncio.run(server.embed([[5], [-1]]))


def test_vectors_of_tokens_are_those_of_the_direct_embedder(real):
    server, direct = real
    found, wanted = server.embed_tokens(TEXTS[:5]), direct.embed_tokens(TEXTS[:5])
    for left, right in zip(found, wanted, strict=True):
        assert same(left, right)


def test_a_question_does_not_wait_for_a_bulk_batch_under_way(gated):
    server, _, bulk = gated
    bulk.hold()
    with ThreadPoolExecutor(1) as callers:
        syncing = callers.submit(server.bulk.embed_passages, ["x"] * 50)
        assert bulk.entered.wait(WAIT_S)
        assert server.embed_queries(["abc"]).tolist() == [[3, 1]]
        assert not syncing.done()
        bulk.gate.set()
        assert len(syncing.result(WAIT_S)) == 50


def test_everybody_who_waits_gets_a_turn(gated):
    server, interactive, _ = gated
    interactive.hold()
    with ThreadPoolExecutor(4) as callers:
        first = callers.submit(server.embed_passages, ["first"])
        assert interactive.entered.wait(WAIT_S)
        many = callers.submit(server.embed_passages, ["m"] * 4)
        few = callers.submit(server.embed_passages, ["q"])
        until(lambda: server.state().interactive.waiting == 5)
        interactive.gate.set()
        for one in (first, many, few):
            one.result(WAIT_S)
    assert interactive.seen[0] == ["first"]
    # Four a turn: three of the four texts, and the one.
    assert sorted(interactive.seen[1]) == ["m", "m", "m", "q"]


def test_a_full_queue_refuses_at_once_and_a_large_call_alone_is_taken(gated):
    server, interactive, _ = gated
    interactive.hold()
    with ThreadPoolExecutor(4) as callers:
        under_way = callers.submit(server.embed_passages, ["a"])
        assert interactive.entered.wait(WAIT_S)
        large = callers.submit(asyncio.run, server.embed(["b"] * 100))
        until(lambda: server.state().interactive.waiting == 100)
        with pytest.raises(EngineBusy, match="gated is busy: 100 requests wait already"):
            server.embed_queries(["c"])
        interactive.gate.set()
        under_way.result(WAIT_S)
        assert len(large.result(WAIT_S).vectors) == 100
    assert len(server.embed_queries(["c"])) == 1


def test_what_nobody_waits_for_any_more_is_not_done(gated):
    server, interactive, _ = gated

    async def leave():
        interactive.hold()
        first = asyncio.create_task(server.embed(["first"]))
        await asyncio.to_thread(interactive.entered.wait, WAIT_S)
        left = asyncio.create_task(server.embed(["left"]))
        await asyncio.to_thread(until, lambda: server.state().interactive.waiting == 1)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        interactive.gate.set()
        await first
        return await server.embed(["next"])

    asyncio.run(leave())
    assert interactive.seen == [["first"], ["next"]]
    assert server.state().interactive.waiting == 0


def test_a_deadline_passes_as_a_named_error(gated):
    server, interactive, _ = gated
    interactive.hold()
    with pytest.raises(EngineTimeout, match="gated did not finish within"):
        asyncio.run(server.embed(["slow"], timeout_s=0.05))


def test_an_encoder_that_fails_fails_its_callers_and_goes_on(gated):
    server, _, _ = gated
    with pytest.raises(RuntimeError, match="poison"):
        server.embed_passages(["poison"])
    with pytest.raises(RuntimeError, match="poison"):
        server.bulk.embed_passages(["fine", "poison"])
    assert server.embed_passages(["fine"]).tolist() == [[4, 1]]
    assert server.bulk.embed_passages(["fine"]).tolist() == [[4, 1]]


def test_an_encoder_that_cannot_be_built_says_why():
    def build():
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        EmbeddingServer(build)


def test_closing_ends_what_waits_and_what_comes_later():
    encoder = GatedEncoder()
    server = EmbeddingServer(lambda: encoder, bulk=None)
    encoder.hold()
    with ThreadPoolExecutor(3) as callers:
        under_way = callers.submit(server.embed_passages, ["a"])
        assert encoder.entered.wait(WAIT_S)
        waiting = callers.submit(server.embed_passages, ["b"])
        until(lambda: server.state().interactive.waiting == 1)
        closing = callers.submit(server.close)
        until(lambda: server.state().interactive.is_closed)
        encoder.gate.set()
        closing.result(WAIT_S)
        assert len(under_way.result(WAIT_S)) == 1
        with pytest.raises(EngineUnavailable, match="closed"):
            waiting.result(WAIT_S)
    with pytest.raises(EngineUnavailable, match="is closed; build a new one"):
        server.embed_passages(["c"])


def test_a_question_asked_again_is_remembered_until_others_take_its_place(gated):
    server, interactive, _ = gated
    assert server.embed_queries(["again"]).tolist() == server.embed_queries(["again"]).tolist()
    assert interactive.seen == [["again"]]
    state = server.state().cache
    assert (state.hits, state.misses, state.entries) == (1, 1, 1)
    small = EmbeddingServer(GatedEncoder, bulk=None, cache_bytes=20)
    for text in ("one", "two", "one"):
        small.embed_queries([text])
    assert (small.state().cache.hits, small.state().cache.entries) == (0, 1)
    small.close()


def test_prefixes_are_put_in_front_and_make_another_embedder(gated):
    encoder = GatedEncoder()
    prefixes = Prefixes("query: ", "passage: ")
    server = EmbeddingServer(lambda: encoder, prefixes=prefixes, bulk=None)
    server.embed_queries(["a"])
    server.bulk.embed_passages(["b"])
    asyncio.run(server.embed(["c"], purpose="query"))
    assert encoder.seen == [["query: a"], ["passage: b"], ["query: c"]]
    assert server.info.id.startswith("gated+prefixes-")
    assert server.bulk.info == server.info == DirectEmbedder(encoder, prefixes).info
    assert gated[0].info.id == "gated"
    server.close()


def test_progress_adds_up_to_all_texts(gated):
    server, _, _ = gated
    told = []
    server.bulk.embed_passages(["x" * (n % 7 + 1) for n in range(30)], on_progress=told.append)
    assert sum(told) == 30


def until(is_so):
    """Returns once it is."""
    waited = threading.Event()
    for _ in range(WAIT_S * 1000):
        if is_so():
            return
        waited.wait(0.001)
    raise AssertionError("it never was")
