"""The device that holds the state: a GPU, or, in a dry run, a simulated one or none, both in the
host's own memory."""

from __future__ import annotations

import time
from typing import Any

import torch

import simulated

MIB = 1 << 20
_cuda: Any = torch.cuda  # partly without types


class Device:
    """Marks lie in the order of the current stream; times between them are the device's."""

    def __init__(self, kind: str, index: int = 0) -> None:
        self.cuda = kind == "cuda"
        self.simulated = kind == "sim"
        self.index = index
        self.torch = torch.device("cuda", index) if self.cuda else torch.device("cpu")
        if self.cuda:
            torch.cuda.set_device(index)
        if self.simulated:
            simulated.use(index)

    @property
    def pins(self) -> bool:
        """Slots are registered with a runtime: that for GPUs is at work."""
        return self.cuda or self.simulated

    def sync(self) -> None:
        """Until the device has done everything, of all streams."""
        if self.cuda:
            torch.cuda.synchronize(self.index)

    def mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = _cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, first: Any, second: Any) -> float:
        """Milliseconds; after sync()."""
        if not self.cuda:
            return 1e3 * float(second - first)
        return float(first.elapsed_time(second))

    def free_bytes(self) -> int:
        if not self.cuda:
            return 64 * MIB
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self.index)[0])

    def host_buffer(self, size: int) -> torch.Tensor:
        """Host memory that the device reads and writes by itself.  It stays for the process's life.
        Not torch's own pinned memory, which comes in powers of two."""
        buffer = torch.empty(size, dtype=torch.uint8)
        buffer.fill_(1)  # by all threads: pinning new pages takes several times as long
        if self.cuda:
            code = _cuda.cudart().cudaHostRegister(buffer.data_ptr(), size, 0)
            if int(code) != 0:
                raise RuntimeError(f"cudaHostRegister of {size} bytes answered {code}")
        return buffer


class Bare:
    """Plain copies between one buffer of the device and one of the host: the ceiling of ours."""

    def __init__(self, device: Device, host: torch.Tensor) -> None:
        self._device = device
        self._host = host
        size = min(host.numel(), int(0.6 * device.free_bytes()))
        self._source = torch.empty(size, dtype=torch.uint8, device=device.torch)
        self._source.fill_(7)
        self.copy(to_host=True)

    def copy(self, to_host: bool) -> float:
        """Seconds of one copy of the whole host buffer."""
        self._device.sync()
        began = time.perf_counter()
        size = self._source.numel()
        for at in range(0, self._host.numel(), size):
            part = self._host[at : at + size]
            there = self._source[: part.numel()]
            if to_host:
                part.copy_(there, non_blocking=True)
            else:
                there.copy_(part, non_blocking=True)
        self._device.sync()
        return time.perf_counter() - began

    @property
    def whole(self) -> bool:
        """The device's buffer is as large as the host's."""
        return self._source.numel() == self._host.numel()

    def rate(self, to_host: bool) -> float:
        """GB/s."""
        return self._host.numel() / self.copy(to_host) / 1e9
