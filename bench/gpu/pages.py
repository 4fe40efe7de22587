"""Pages of files in memory: what it takes to make them ready for a device, and how fast they are
digested while one writes others."""

from __future__ import annotations

import ctypes
import mmap
import os
import pathlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from report import Row, median

from device import Bare, Device
from digests import digest_function, in_threads
from settings import GB, MIB, Stage

_cuda: Any = torch.cuda  # partly without types
POPULATE_READ, POPULATE_WRITE = 22, 23
REGISTER_READ_ONLY = 8


class huge_folder:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __enter__(self) -> pathlib.Path:
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24G,huge=always", "tmpfs",
                        str(self.path)], check=True)  # fmt: skip
        return self.path

    def __exit__(self, *unused: object) -> None:
        subprocess.run(["umount", "-l", str(self.path)])


class Told:
    """Each figure is a row at once: what comes after may fail."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def append(self, text: str) -> None:
        self._stage.add(Row("pages, GB/s", "", note=text))


class Pages:
    """What it takes to make pages of a file in memory ready for a device."""

    def __init__(self, stage: Stage, device: Device, folder: pathlib.Path, size: int) -> None:
        self.stage, self.device, self.folder = stage, device, folder
        self.size = size // (64 * MIB) * 64 * MIB
        self.file = open(folder / "file", "w+b")
        os.ftruncate(self.file.fileno(), self.size)
        self.libc = ctypes.CDLL(None, use_errno=True)

    def mapped(self, write: bool) -> tuple[mmap.mmap, int]:
        made = mmap.mmap(self.file.fileno(), self.size, prot=3 if write else 1)
        address = ctypes.addressof(ctypes.c_char.from_buffer(made)) if write else 0
        if not write:
            made.close()
            mapper = self.libc.mmap
            mapper.restype = ctypes.c_void_p
            mapper.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                               ctypes.c_int, ctypes.c_long]  # fmt: skip
            address = mapper(None, self.size, 1, 1, self.file.fileno(), 0)
        return made, address

    def populate(self, address: int, advice: int, threads: int) -> float:
        def one(start: int) -> None:
            self.libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(64 * MIB), advice)

        return in_threads(threads, [partial(one, start) for start in self.pieces(address)])

    def pieces(self, address: int) -> Iterator[int]:
        return iter(range(address, address + self.size, 64 * MIB))

    def register(self, address: int, piece: int, threads: int, flags: int) -> tuple[float, int]:
        runtime = _cuda.cudart()
        wrong: list[int] = []

        def one(start: int) -> None:
            code = int(runtime.cudaHostRegister(start, piece, flags))
            if code:
                wrong.append(code)

        starts = range(address, address + self.size, piece)
        took = in_threads(threads, [partial(one, start) for start in starts])
        return took, len(wrong)

    def all(self) -> None:
        runtime = _cuda.cudart()
        rates = Told(stage=self.stage)
        _, address = self.mapped(True)
        rates.append(f"pages made {self.rate(self.populate(address, POPULATE_WRITE, 8))}")
        took, wrong = self.register(address, self.size, 1, 0)
        rates.append(f"registered whole {self.rate(took)} ({wrong} refused)")
        self.contended(address)
        began = time.perf_counter()
        runtime.cudaHostUnregister(address)
        rates.append(f"unregistered {self.rate(time.perf_counter() - began)}")
        took, wrong = self.register(address, self.size, 1, 0)
        rates.append(f"registered again {self.rate(took)} ({wrong} refused)")
        runtime.cudaHostUnregister(address)
        for threads in (1, 4):
            took, wrong = self.register(address, 64 * MIB, threads, 0)
            rates.append(f"in pieces of 64 MiB, {threads} threads {self.rate(took)} ({wrong})")
            for start in self.pieces(address):
                runtime.cudaHostUnregister(start)
        _, fresh = self.mapped(False)
        rates.append(f"a second mapping populated {self.rate(self.populate(fresh, POPULATE_READ, 8))}")
        self.places()
        took, wrong = self.register(fresh, 64 * MIB, 1, REGISTER_READ_ONLY)
        rates.append(f"registered read-only {self.rate(took)} ({wrong} refused)")

    def places(self) -> None:
        """Plain copies into several files, again and again: whether the rate belongs to the memory."""
        source = torch.empty(GB // MIB * MIB, dtype=torch.uint8, device=self.device.torch)
        files = []
        for _ in range(6):
            file = tempfile.TemporaryFile(dir=self.folder)
            os.ftruncate(file.fileno(), source.numel())
            made = torch.frombuffer(mmap.mmap(file.fileno(), source.numel()), dtype=torch.uint8)
            made.fill_(1)
            code = int(_cuda.cudart().cudaHostRegister(made.data_ptr(), made.numel(), 0))
            if code:
                raise RuntimeError(f"a file cannot be pinned: {code}")
            files.append(made)
        found: list[list[str]] = [[] for _ in files]
        for _ in range(3):
            for file_bytes, rates in zip(files, found):
                self.device.sync()
                began = time.perf_counter()
                for _ in range(3):
                    file_bytes.copy_(source, non_blocking=True)
                self.device.sync()
                seconds = time.perf_counter() - began
                rates.append(f"{3 * source.numel() / seconds / 1e9:.1f}")
        for file_bytes in files:
            _cuda.cudart().cudaHostUnregister(file_bytes.data_ptr())
        self.stage.add(Row("bare copies into each of 6 files, GB/s", "",
                           note="; ".join(" ".join(rates) for rates in found)))  # fmt: skip

    def rate(self, seconds: float) -> str:
        return f"{self.size / seconds / 1e9:.1f}"

    def contended(self, address: int) -> None:
        """Digests of one memory while a device writes another, and while none does."""
        digest = digest_function()
        host = self.device.host_buffer(4 * GB)
        bare = Bare(self.device, host)
        for threads in (4, 8, 12, 15):
            chunks = [partial(digest, start, 4 * MIB, 0)
                      for start in range(address, address + self.size, 4 * MIB)]  # fmt: skip
            alone = in_threads(threads, list(chunks))
            stop = threading.Event()
            rates: list[float] = []

            def copy() -> None:
                while not stop.is_set():
                    rates.append(bare.rate(to_host=True))

            copier = threading.Thread(target=copy)
            copier.start()
            beside = in_threads(threads, list(chunks))
            stop.set()
            copier.join()
            self.stage.add(Row(
                f"digests of huge pages, {threads} threads, GB/s", "",
                note=f"alone {self.rate(alone)}, beside copies {self.rate(beside)} (these "
                f"{median(rates):.1f})",
            ))  # fmt: skip
