"""Sharing, freeing and refusing copies, a card that fails, and finding one at all."""

import gc
import logging
import threading

import faiss
import numpy as np
import pytest

from vector_index.errors import GpuUnavailable
from vector_index.gpu import Batching, CpuAccelerator, Device, gpu_support, open_device
from vector_index.gpu.faiss_gpu import FaissGpu
from vector_index.gpu.protocol import Copy
from vector_index.gpu.replica import Replica
from vector_index.kinds import KINDS

DIM, K, SOON_S = 16, 5, 60.0
VECTORS = np.random.default_rng(0).standard_normal((500, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
QUERIES = VECTORS[:7] + np.float32(0.01)
FLAT_BYTES = VECTORS.nbytes


@pytest.fixture
def flat():
    return KINDS["flat"].build(VECTORS)


@pytest.fixture
def opened():
    devices = []

    def make(accelerator=None, **options):
        accelerator = accelerator or CpuAccelerator()
        options = {"memory_bytes": 10**9} | options
        devices.append(Device(accelerator, name="card", **options))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


def assert_answers(vectors, flat):
    np.testing.assert_array_equal(vectors.scan(QUERIES, K)[1], flat.scan(QUERIES, K)[1])


def test_generations_share_the_copy_of_a_segment_they_share(opened, flat):
    device = opened(memory_bytes=FLAT_BYTES)
    first = device.replica("one", flat)
    again = device.replica("one", KINDS["flat"].build(VECTORS))
    assert isinstance(first, Replica)
    assert again is first


def test_a_copy_is_freed_when_the_last_generation_lets_go(opened, flat, caplog):
    device = opened(memory_bytes=FLAT_BYTES)
    old, new = device.replica("one", flat), device.replica("one", flat)
    del old
    gc.collect()
    assert device.replica("two", flat) is flat  # the new generation still holds the first
    assert_answers(new, flat)
    assert [record.getMessage() for record in caplog.records] == [
        "segment two stays on the CPU: card: 0.0 MB do not fit: 0.0 of 0.0 MB are taken"
    ]
    del new
    gc.collect()
    assert isinstance(device.replica("two", flat), Replica)


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_sq8", "hnsw"])
def test_the_budget_counts_at_least_the_codes_of_every_row(kind, opened):
    vectors = np.tile(VECTORS, (4, 1))
    segment = KINDS[kind].build(vectors)
    least = vectors.nbytes // 4 if kind == "ivf_sq8" else vectors.nbytes
    assert opened(memory_bytes=least - 1).replica("s", segment) is segment
    assert isinstance(opened(memory_bytes=3 * least + 2000 * 256).replica("s", segment), Replica)


def test_a_card_out_of_memory_leaves_the_segment_on_the_cpu_and_says_why(opened, flat, caplog):
    device = opened(CpuAccelerator(memory_bytes=FLAT_BYTES))
    first = device.replica("one", flat)
    assert isinstance(first, Replica)
    assert device.replica("two", flat) is flat
    assert caplog.records[-1].levelno == logging.WARNING
    assert "two stays on the CPU: card: out of memory: 32,000 bytes" in caplog.text
    assert_answers(first, flat)


class Failing(CpuAccelerator):
    def flat(self, vectors):
        index = super().flat(vectors).index
        return Copy(FailingIndex(index))


class FailingIndex:
    def __init__(self, index):
        self.index, self.fails = index, True

    def search(self, queries, k, params=None):
        if self.fails:
            self.fails = False
            raise RuntimeError("CUDA error 2")
        return self.index.search(queries, k)


def test_a_search_the_card_fails_is_answered_by_the_cpu_and_logged(opened, flat, caplog):
    replica = opened(Failing()).replica("one", flat)
    assert_answers(replica, flat)
    assert "card: a search for 37 rows of 7 queries failed: CUDA error 2" in caplog.text
    caplog.clear()
    assert_answers(replica, flat)
    assert not caplog.records


class Slow(CpuAccelerator):
    """Copies and searches wait for their gates."""

    def __init__(self):
        super().__init__()
        self.may_copy, self.may_search = threading.Event(), threading.Event()
        self.is_copying = threading.Event()

    def flat(self, vectors):
        self.is_copying.set()
        assert self.may_copy.wait(SOON_S)
        return Copy(SlowIndex(super().flat(vectors).index, self.may_search))


class SlowIndex:
    def __init__(self, index, gate):
        self.index, self.gate = index, gate

    def search(self, queries, k, params=None):
        assert self.gate.wait(SOON_S)
        return self.index.search(queries, k)


def test_a_card_that_gives_no_answer_is_given_up(opened, flat, caplog):
    slow = Slow()
    slow.may_copy.set()
    device = opened(slow, patience_s=0.01)
    replica = device.replica("one", flat)
    assert_answers(replica, flat)
    assert "card gave no answer within 0.01 s" in caplog.text
    slow.may_search.set()


def test_while_the_card_copies_another_segment_the_cpu_answers(opened, flat):
    slow = Slow()
    slow.may_copy.set()
    device = opened(slow)
    replica = device.replica("one", flat)
    slow.may_copy.clear()
    slow.is_copying.clear()
    loading = threading.Thread(target=device.replica, args=("two", flat))
    loading.start()
    assert slow.is_copying.wait(SOON_S)
    assert_answers(replica, flat)  # searching the card would wait for may_search
    slow.may_copy.set()
    slow.may_search.set()
    loading.join(SOON_S)


def test_a_full_line_spills_to_the_cpu(opened, flat):
    device = opened(batching=Batching(max_waiting=0))
    assert_answers(device.replica("one", flat), flat)


def test_a_closed_device_leaves_its_replicas_answering(opened, flat, caplog):
    device = opened()
    replica = device.replica("one", flat)
    device.close()
    assert_answers(replica, flat)
    assert device.replica("two", flat) is flat
    assert "card is closed; open the device again" in caplog.text
    del replica
    gc.collect()


def test_the_cpu_build_of_faiss_is_no_gpu_and_the_error_names_what_to_install(monkeypatch):
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    support = gpu_support()
    assert (support.devices, support.has_cuvs) == (0, False)
    with pytest.raises(GpuUnavailable, match=r"CPU build.*pip install faiss-gpu.*faiss-gpu-cuvs"):
        open_device(0, memory_bytes=1)


class Resources:
    made = 0

    def __init__(self):
        Resources.made += 1

    def setTempMemory(self, size_bytes):
        self.temporary_bytes = size_bytes


class Options:
    device, use_cuvs = -1, True


@pytest.fixture
def gpu_build(monkeypatch):
    """The names of faiss-gpu-cuvs 1.15.1 that we use, working on the CPU; what they were given."""
    given = []

    def flat(resources, dim, config):
        given.append((resources.temporary_bytes, config.device, config.use_cuvs))
        return faiss.IndexFlatIP(dim)

    def to_gpu(resources, number, index, options):
        given.append((resources.temporary_bytes, number, options.use_cuvs))
        return faiss.clone_index(index)

    class Cagra(faiss.IndexHNSWFlat):
        def __init__(self, resources, dim, metric, config):
            given.append((resources.temporary_bytes, config.device, metric))
            super().__init__(dim, 32, metric)

        def train(self, vectors):
            self.add(vectors)

    names = {
        "StandardGpuResources": Resources,
        "GpuClonerOptions": Options,
        "GpuIndexFlatConfig": Options,
        "GpuIndexCagraConfig": Options,
        "GpuIndexFlatIP": flat,
        "GpuIndexCagra": Cagra,
        "index_cpu_to_gpu": to_gpu,
        "SearchParametersCagra": lambda itopk_size: faiss.SearchParametersHNSW(efSearch=itopk_size),
        "get_num_gpus": lambda: 2,
    }
    for name, value in names.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    monkeypatch.setattr(Resources, "made", 0)
    return given


def test_every_copy_goes_to_its_card_with_one_set_of_resources_and_only_graphs_use_cuvs(
    gpu_build,
):
    device = open_device(1, memory_bytes=10**9)
    vectors = np.tile(VECTORS, (3, 1))
    for kind in ("flat", "ivf_flat", "hnsw"):
        segment = KINDS[kind].build(vectors)
        replica = device.replica(kind, segment)
        assert isinstance(replica, Replica)
        found, expected = replica.scan(QUERIES, 1), segment.scan(QUERIES, 1, effort=100)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    device.close()
    kept = 256 << 20
    assert gpu_build == [(kept, 1, False), (kept, 1, False), (kept, 1, faiss.METRIC_L2)]
    assert Resources.made == 1


def test_a_graph_keeps_the_vectors_that_faiss_points_to(gpu_build):
    vectors = np.tile(VECTORS, (3, 1))
    assert FaissGpu(0, has_graph=True).graph(vectors).kept is vectors


@pytest.mark.parametrize("number", [-1, 2])
def test_a_card_that_is_not_there_is_an_error_with_how_many_there_are(gpu_build, number):
    assert gpu_support().devices == 2
    with pytest.raises(GpuUnavailable, match=f"gpu {number} was asked .* sees 2 .*nvidia-smi"):
        open_device(number, memory_bytes=1)


def test_what_faiss_raises_on_a_card_is_logged_as_ours(
    gpu_build, opened, flat, monkeypatch, caplog
):
    def refuse(*_):
        raise RuntimeError("Failed to cudaMalloc 12 bytes on device 0 (error 2 out of memory)")

    monkeypatch.setattr(faiss, "GpuIndexFlatIP", refuse)
    assert opened(FaissGpu(0, has_graph=False)).replica("one", flat) is flat
    assert "gpu 0 could not take a copy: Failed to cudaMalloc 12 bytes" in caplog.text
