"""FAISS on a GPU: whether it is there, and copies made on it. Nothing is loaded at import.

Read in faiss-gpu 1.15.1 and its sources; what was never run is listed in docs/gpu.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from vector_index.errors import DeviceFailed, GpuUnavailable
from vector_index.gpu.device import Device
from vector_index.gpu.protocol import Copy
from vector_index.gpu.worker import Batching

_T = TypeVar("_T")

# FAISS takes 1.5 GiB of a card for itself by default. A batch of 256 queries needs its products
# with one tile of the rows, far less.
_TEMPORARY_BYTES = 256 << 20

_INSTALL = (
    "faiss-cpu, faiss-gpu and faiss-gpu-cuvs install the same module, so keep one: "
    "`pip uninstall faiss-cpu`, then `pip install faiss-gpu` (CUDA 12) or `pip install "
    "faiss-gpu-cuvs` (CUDA 13, with CAGRA)"
)


@dataclass(frozen=True, slots=True)
class GpuSupport:
    """What the installed FAISS can use: how many cards, and whether cuVS was compiled in."""

    devices: int
    has_cuvs: bool


def gpu_support() -> GpuSupport:
    """What is there, found by looking at what `faiss` defines; asks CUDA only in a GPU build."""
    if not hasattr(faiss, "StandardGpuResources"):
        return GpuSupport(devices=0, has_cuvs=False)
    return GpuSupport(faiss.get_num_gpus(), has_cuvs=hasattr(faiss, "GpuIndexCagra"))


def open_device(number: int, *, memory_bytes: int, batching: Batching | None = None) -> Device:
    """The card of this number, taking up to `memory_bytes` of its memory for copies.

    FAISS takes 256 MiB more for what it computes. Close it when no generation uses it any more.
    Raises GpuUnavailable when there is no such card, or no FAISS that can use one.
    """
    support = gpu_support()
    if not 0 <= number < support.devices:
        raise GpuUnavailable(_missing(number, support))
    accelerator = FaissGpu(number, has_graph=support.has_cuvs)
    return Device(accelerator, name=f"gpu:{number}", memory_bytes=memory_bytes, batching=batching)


class FaissGpu:
    """Copies on one card. One worker thread calls it: FAISS's resources are not thread-safe."""

    def __init__(self, number: int, *, has_graph: bool) -> None:
        self.has_graph = has_graph
        self._number = number
        self._made: Any = None

    def flat(self, vectors: NDArray[np.float32]) -> Copy:
        config = faiss.GpuIndexFlatConfig()
        config.device = self._number
        config.use_cuvs = False
        return self._make(lambda: Copy(self._flat(vectors, config)))

    def lists(self, index: Any) -> Copy:
        options = faiss.GpuClonerOptions()
        # cuVS has another layout and rounding of its own; these kinds promise the CPU's results.
        options.use_cuvs = False
        return self._make(
            lambda: Copy(
                faiss.index_cpu_to_gpu(self._resources(), self._number, index, options),
                lambda breadth: faiss.SearchParametersIVF(nprobe=breadth),  # type: ignore[call-arg]
            )
        )

    def graph(self, vectors: NDArray[np.float32]) -> Copy:
        config = faiss.GpuIndexCagraConfig()  # type: ignore[attr-defined]
        config.device = self._number
        return self._make(
            lambda: Copy(
                self._graph(vectors, config),
                lambda breadth: faiss.SearchParametersCagra(itopk_size=breadth),  # type: ignore[attr-defined]
                kept=vectors,  # FAISS keeps a raw pointer to what CAGRA was trained on
            )
        )

    def _flat(self, vectors: NDArray[np.float32], config: Any) -> Any:
        index = faiss.GpuIndexFlatIP(self._resources(), vectors.shape[1], config)
        index.add(vectors)
        return index

    def _graph(self, vectors: NDArray[np.float32], config: Any) -> Any:
        # On unit vectors the nearest by distance are the nearest by product, and cuVS knows
        # distance best; scores are computed anew from the originals anyhow.
        cagra = faiss.GpuIndexCagra  # type: ignore[attr-defined]
        index = cagra(self._resources(), vectors.shape[1], faiss.METRIC_L2, config)
        index.train(vectors)
        return index

    def _resources(self) -> Any:
        """Made by the thread that uses it, at the first copy."""
        if self._made is None:
            self._made = faiss.StandardGpuResources()
            self._made.setTempMemory(_TEMPORARY_BYTES)
        return self._made

    def _make(self, make: Callable[[], _T]) -> _T:
        try:
            return make()
        except RuntimeError as exc:
            raise DeviceFailed(f"gpu {self._number} could not take a copy: {exc}") from exc


def _missing(number: int, support: GpuSupport) -> str:
    if not hasattr(faiss, "StandardGpuResources"):
        return (
            f"gpu {number} was asked for, but faiss {faiss.__version__} is a CPU build; {_INSTALL}"
        )
    return (
        f"gpu {number} was asked for, but FAISS sees {support.devices} of them; check nvidia-smi, "
        "the driver and CUDA_VISIBLE_DEVICES"
    )
