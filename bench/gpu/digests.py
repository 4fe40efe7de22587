"""The stage of digests alone: how fast this machine's threads can read memory that a GPU has written,
and how much of that ISA-L's CRC32C keeps.

The image of a snapshot is digested behind its copies, from memory that no cache holds.  If a plain
read is no faster, the memory is what digests wait for, and no code of ours can be quicker.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import mmap
import os
import pathlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import holdfast
import torch
from report import compared

from device import Bare, Device
from settings import GB, MIB, Skipped, Stage

_cuda: Any = torch.cuda  # partly without types
ABSENT = 0x5A  # a byte that no chunk holds: memchr reads all


def digest_function() -> Callable[[int, int, int], int]:
    """crc32_iscsi of the libisal that is measured: the wheel's, else the system's."""
    found = sorted(pathlib.Path(holdfast.__file__).parent.rglob("libisal*.so*"))
    name = str(found[0]) if found else ctypes.util.find_library("isal")
    if name is None:
        raise Skipped("there is no libisal")
    function = ctypes.CDLL(name).crc32_iscsi
    function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    function.restype = ctypes.c_uint32
    return lambda address, size, start: int(function(address, size, start))


def plain_read() -> Callable[[int, int], int]:
    function = ctypes.CDLL(None).memchr
    function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    function.restype = ctypes.c_void_p
    return lambda address, size: int(function(address, ABSENT, size) or 0)


def in_threads(threads: int, work: Sequence[Callable[[], Any]]) -> float:
    """Seconds."""
    todo = iter(work)  # one step of it is atomic under the interpreter's lock

    def run() -> None:
        for each in todo:
            each()

    running = [threading.Thread(target=run) for _ in range(threads)]
    began = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - began


class Memory:
    """A file in memory, as a slot is one, that a GPU has written where there is one."""

    def __init__(self, stage: Stage, size: int) -> None:
        self.size = size
        path = pathlib.Path(stage.settings.memory) / "digests"
        with open(path, "w+b") as file:
            os.ftruncate(file.fileno(), size)
            self.map = mmap.mmap(file.fileno(), size)
        self.bytes = torch.frombuffer(self.map, dtype=torch.uint8)
        self.bytes.fill_(1)
        self.address = self.bytes.data_ptr()
        self.device = Device(stage.settings.device)
        if self.device.cuda:
            error = _cuda.cudart().cudaHostRegister(self.address, size, 0)
            if int(error) != 0:
                raise Skipped(f"the memory cannot be pinned: {error}")

    def rate(self, threads: int, chunk: Callable[[int, int], object]) -> float:
        """GB/s of so many threads that take the next MiB in turns."""
        starts = range(self.address, self.address + self.size, MIB)
        return self.size / in_threads(threads, [partial(chunk, start, MIB) for start in starts]) / 1e9


def digests(stage: Stage) -> None:
    size = min(stage.sizes.bare_bytes, 6 * GB) // MIB * MIB
    memory = Memory(stage, size)
    digest = digest_function()
    read = plain_read()
    bare = Bare(memory.device, memory.bytes) if memory.device.cuda else None
    cores = os.cpu_count() or 1
    for threads in sorted({1, min(4, cores), min(8, cores), max(1, cores - 2)}):
        ours: list[float] = []
        ceiling: list[float] = []
        for _ in range(stage.sizes.side_rounds):
            for rates, chunk in (
                (ours, lambda address, bytes_: digest(address, bytes_, 0)),
                (ceiling, read),
            ):
                if bare is not None:
                    bare.copy(to_host=True)
                rates.append(memory.rate(threads, chunk))
        stage.add(compared(f"digests alone, {threads} threads", "GB/s", ours, ceiling, None,
                           f"ceiling: a plain read of the same {size / 1e9:.3g} GB"))  # fmt: skip


def main() -> None:
    stage = Stage.of_arguments()
    stage.run({"digests": lambda: digests(stage)})


if __name__ == "__main__":
    main()
