"""Segments copied to a GPU for scanning; the segment on the CPU stays the truth and the fallback.

A `Device` is one card: one thread that alone touches it, a memory budget, and the copies on it.
`Device.replica` is the whole plug-in: give it a segment's vectors, scan what it returns.
"""

from vector_index.gpu.cpu import CpuAccelerator
from vector_index.gpu.device import Device
from vector_index.gpu.faiss_gpu import GpuSupport, gpu_support, open_device
from vector_index.gpu.worker import Batching

__all__ = [
    "Batching",
    "CpuAccelerator",
    "Device",
    "GpuSupport",
    "gpu_support",
    "open_device",
]
