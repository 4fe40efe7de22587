"""The stage that looks inside: where the time of a snapshot, a fence and a restore goes.

Nothing here is judged; it is for whoever asks why a row of another stage was missed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import holdfast
import torch
from holdfast import _attempts, _client, _registration, _restore
from report import Row, median

from blocks import Ours, Steps, run_block
from device import Bare, Device
from digests import digest_function
from model import Training
from settings import GB, MIB, Stage, percentile

_cuda: Any = torch.cuda  # partly without types
POPULATE_READ, POPULATE_WRITE = 22, 23
REGISTER_READ_ONLY = 8


def tasks() -> dict[str, tuple[str, float, float]]:
    """Of each thread: name, seconds on a processor, seconds that it waited for one."""
    found = {}
    for path in pathlib.Path("/proc/self/task").iterdir():
        try:
            run, wait, _ = (path / "schedstat").read_text().split()
            found[path.name] = ((path / "comm").read_text().strip(), int(run) / 1e9, int(wait) / 1e9)
        except (OSError, ValueError):
            continue
    return found


class Clocked:
    """Replaces methods by ones that keep how long each call took, in milliseconds."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {}

    def watch(self, owner: Any, method: str, name: str = "") -> None:
        real = getattr(owner, method)
        kept = self.took.setdefault(name or f"{owner.__name__}.{method}", [])

        def timed(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter_ns()
            try:
                return real(*arguments, **keywords)
            finally:
                kept.append((time.perf_counter_ns() - began) / 1e6)

        setattr(owner, method, timed)

    def text(self, last: int = 0) -> str:
        parts = []
        for name, times in self.took.items():
            times = times[-last:] if last else times
            if times:
                parts.append(f"{name} {median(times):.3f} ({percentile(times, 0.99):.3f})")
        return ", ".join(parts)

    def clear(self) -> None:
        for times in self.took.values():
            times.clear()


class Inside:
    def __init__(self, stage: Stage) -> None:
        self.stage, self.sizes = stage, stage.sizes
        self.device = Device(stage.settings.device)
        self.training = Training(self.sizes, self.device)
        self.training.iterate()
        self.bytes = self.training.bytes()
        self.steps = Steps()
        self.clocked = Clocked()

    def note(self, work: str, text: str, ours: float | None = None, unit: str = "") -> None:
        self.stage.add(Row(work, unit, ours, note=text))

    def open(self, threads: int, slots: int) -> holdfast.Checkpointer:
        made = holdfast.Checkpointer(
            "inside", model=self.training.model, optimizer=self.training.optimizer,
            slots=slots, copy_threads=threads,
        )  # fmt: skip
        self.training.destroy()
        made.restore()
        began = time.monotonic()
        made.prepare(120)
        for _ in range(200 if self.device.cuda else 0):
            if made.stats.pinned_slots + made.stats.unpinned_slots >= slots:
                break
            made.snapshot(self.steps.next())
            made.fence()
            time.sleep(0.1)
        self.settle(made)
        stats = made.stats
        self.note(f"slots ready, {threads} threads", f"{stats.pinned_slots} pinned, "
                  f"{stats.unpinned_slots} not", time.monotonic() - began, "s")  # fmt: skip
        return made

    def settle(self, checkpointer: holdfast.Checkpointer) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            stats = checkpointer.stats
            if stats.last_sealed_step >= stats.last_begun_step:
                return
            time.sleep(0.0005)

    # ---- copies of an idle training ----

    def copies(self) -> None:
        for threads in (0, 4, 12, 15):
            made = self.open(threads, 2)
            if threads == 0:
                self.note("pages of a slot", slot_pages())
            for _ in range(4):
                self.copy(made, threads)
            made.close(drain=False)

    def copy(self, made: holdfast.Checkpointer, threads: int) -> None:
        self.device.sync()
        before = tasks()
        began = time.perf_counter()
        result = made.snapshot(self.steps.next())
        made.fence()
        while self.device.cuda and not torch.cuda.current_stream().query():
            time.sleep(0.001)  # a synchronisation would spin on a core that a worker wants
        landed = time.perf_counter() - began
        self.settle(made)
        sealed = time.perf_counter() - began
        after = tasks()
        busy = []
        for task, (name, run, wait) in after.items():
            _, run_before, wait_before = before.get(task, ("", 0.0, 0.0))
            if run - run_before > 0.01:
                busy.append(f"{name} {run - run_before:.3f}+{wait - wait_before:.3f}")
        self.note(
            f"copy of an idle training, {threads} threads",
            f"{'started' if result else result.reason}; landed {1e3 * landed:.0f}, digested "
            f"{made.stats.last_copy_ns / 1e6:.0f}, sealed {1e3 * sealed:.0f}; seconds run + queued: "
            + " ".join(busy), 1e3 * sealed, "ms",
        )  # fmt: skip

    # ---- the training thread ----

    def thread(self) -> None:
        made = self.open(0, 3)
        clocked = self.clocked
        clocked.watch(holdfast.Checkpointer, "snapshot")
        clocked.watch(holdfast.Checkpointer, "fence")
        clocked.watch(_registration.Registration, "capture")
        layout: Any = made._registration._layout
        clocked.watch(type(layout._state), "unchanged")
        clocked.watch(type(layout._watch), "refresh")
        clocked.watch(type(layout._state), "values")
        clocked.watch(_client.Client, "snapshot")
        clocked.watch(_client.Client, "fence")
        inside: list[float] = []
        for _ in range(12):
            made.snapshot(self.steps.next())
            inside.append(made.stats.last_snapshot_ns / 1e6)
            made.fence()
            self.device.sync()
            self.settle(made)
        self.note("snapshot() of an idle training, median (p99) ms",
                  f"{clocked.text()}; C++ {median(inside):.3f}")  # fmt: skip
        for wanted in (self.sizes.slow_ms, self.sizes.fast_ms):
            batch = self.training.calibrate(wanted, 14 << 30)
            clocked.clear()
            ours = Timed("ours", made, self.steps)
            block = run_block(self.training, ours, 2 * self.sizes.iterations, 3)
            self.note(
                f"snapshot() every {wanted:.0f} ms ({batch}), median (p99) ms",
                f"{clocked.text()}; C++ snapshot {median(ours.snapshots):.3f} "
                f"({percentile(ours.snapshots, 0.99):.3f}), fence {median(ours.fences):.3f} "
                f"({percentile(ours.fences, 0.99):.3f}); {len(block.skipped)} skipped; "
                f"iteration {block.mean():.1f}, held up {block.device_wait_ms:.1f}, copy "
                f"{made.stats.last_copy_ns / 1e6:.0f}",
            )
        made.close(drain=False)

    # ---- restore ----

    def restore(self) -> None:
        clocked = Clocked()
        clocked.watch(_client.Client, "restore_begin")
        clocked.watch(_client.Restore, "sidecar")
        clocked.watch(_client.Restore, "load")
        clocked.watch(_client.Restore, "finish")
        clocked.watch(_restore.Loader, "load", "Loader.load")
        clocked.watch(_restore.Loader, "_plan_tensors")
        clocked.watch(_restore.Loader, "_apply")
        clocked.watch(_restore.Sidecar, "__init__", "Sidecar")
        clocked.watch(_registration.Registration, "register")
        clocked.watch(_attempts.Attempts, "run", "Attempts.run")
        for threads in (0, 0, 0, 8, 12, 32):
            clocked.clear()
            made = holdfast.Checkpointer(
                "inside", model=self.training.model, optimizer=self.training.optimizer,
                slots=2, copy_threads=threads,
            )  # fmt: skip
            self.training.destroy()
            self.device.sync()
            before = os.times()
            began = time.perf_counter()
            made.restore()
            self.device.sync()
            took = time.perf_counter() - began
            after = os.times()
            self.note(
                f"restore, {threads} threads",
                f"{self.bytes / took / 1e9:.1f} GB/s; user {after[0] - before[0]:.2f} s, system "
                f"{after[1] - before[1]:.2f}; ms: {clocked.text()}", 1e3 * took, "ms",
            )
            made.close(drain=False)

    # ---- the machine ----

    def machine(self) -> None:
        for command in (["lscpu"], ["cat", "/sys/kernel/mm/transparent_hugepage/shmem_enabled"]):
            shown = subprocess.run(command, capture_output=True, text=True).stdout
            print("\n".join(shown.splitlines()[:24]), flush=True)
        if not self.device.cuda:
            return
        with huge_folder(pathlib.Path(self.stage.settings.memory) / "huge") as folder:
            Pages(self, folder, min(6 * GB, self.bytes)).all()


class Timed(Ours):
    """Keeps what the library says of each call."""

    def begin(self) -> None:
        super().begin()
        self.snapshots: list[float] = []
        self.fences: list[float] = []

    def after_update(self) -> None:
        super().after_update()
        stats = self.checkpointer.stats
        self.snapshots.append(stats.last_snapshot_ns / 1e6)
        self.fences.append(stats.last_fence_wait_ns / 1e6)


class huge_folder:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __enter__(self) -> pathlib.Path:
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20G,huge=always", "tmpfs",
                        str(self.path)], check=True)  # fmt: skip
        return self.path

    def __exit__(self, *unused: object) -> None:
        subprocess.run(["umount", "-l", str(self.path)])


class Told:
    def __init__(self, note: Callable[[str, str], None]) -> None:
        self._note = note

    def append(self, text: str) -> None:
        self._note("pages, GB/s", text)


class Pages:
    """What it takes to make pages of a file in memory ready for a device."""

    def __init__(self, inside: Inside, folder: pathlib.Path, size: int) -> None:
        self.inside = inside
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

        return in_threads(threads, [lambda s=s: one(s) for s in self.pieces(address)])

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
        took = in_threads(threads, [lambda s=s: one(s) for s in starts])
        return took, len(wrong)

    def all(self) -> None:
        runtime = _cuda.cudart()
        note = self.inside.note
        rates = Told(note)
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
        took, wrong = self.register(fresh, 64 * MIB, 1, REGISTER_READ_ONLY)
        rates.append(f"registered read-only {self.rate(took)} ({wrong} refused)")
        for threads in (8, 16):
            self.through_rings(fresh, threads)

    def rate(self, seconds: float) -> str:
        return f"{self.size / seconds / 1e9:.1f}"

    def contended(self, address: int) -> None:
        """Digests of one memory while a device writes another, and while none does."""
        digest = digest_function()
        inside = self.inside
        host = inside.device.host_buffer(4 * GB)
        bare = Bare(inside.device, host)
        for threads in (4, 8, 12, 15):
            chunks = [lambda s=s: digest(s, 4 * MIB, 0)
                      for s in range(address, address + self.size, 4 * MIB)]  # fmt: skip
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
            inside.note(f"digests of huge pages, {threads} threads, GB/s",
                        f"alone {self.rate(alone)}, beside copies {self.rate(beside)} (these "
                        f"{median(rates):.1f})")  # fmt: skip

    def through_rings(self, address: int, threads: int) -> None:
        """Digest, copy to a pinned room, send: by so many threads with rooms of their own."""
        inside = self.inside
        digest = digest_function()
        for room in (MIB, 4 * MIB):
            ring = inside.device.host_buffer(2 * threads * room)
            target = torch.empty(self.size // 2, dtype=torch.uint8, device=inside.device.torch)
            streams = [_cuda.Stream() for _ in range(threads)]
            todo = iter(range(0, self.size // 2 // room))
            parts: list[Callable[[], None]] = []

            def work(own: int) -> None:
                with _cuda.stream(streams[own]):
                    events: list[Any] = [None, None]
                    for turn, index in enumerate(todo):
                        half = turn % 2
                        if events[half] is not None:
                            events[half].synchronize()
                        at = (2 * own + half) * room
                        there = ring.data_ptr() + at
                        start = address + index * room
                        for chunk in range(0, room, MIB):
                            digest(start + chunk, MIB, 0)
                            ctypes.memmove(there + chunk, start + chunk, MIB)
                        target[index * room : (index + 1) * room].copy_(
                            ring[at : at + room], non_blocking=True
                        )
                        events[half] = _cuda.Event()
                        events[half].record()

            parts = [lambda own=own: work(own) for own in range(threads)]
            took = in_threads(threads, parts)
            inside.device.sync()
            inside.note(f"through pinned rooms of {room // MIB} MiB, {threads} threads",
                        f"{self.size / 2 / took / 1e9:.1f} GB/s")  # fmt: skip
            _cuda.cudart().cudaHostUnregister(ring.data_ptr())


def in_threads(threads: int, work: list[Callable[[], Any]]) -> float:
    """Seconds."""
    todo = iter(work)

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


def slot_pages() -> str:
    """How the largest mappings of the arena are mapped."""
    found, current = [], ""
    for line in pathlib.Path("/proc/self/smaps").read_text().splitlines():
        if "arena" in line:
            current = line.split()[0]
        elif current and line.startswith(("Size:", "ShmemPmdMapped:", "Rss:", "KernelPageSize:")):
            found.append(" ".join(line.split()))
            if line.startswith("ShmemPmdMapped"):
                current = ""
    return "; ".join(found[:12])


def main() -> None:
    stage = Stage.of_arguments()
    inside = Inside(stage)
    for part in (inside.copies, inside.thread, inside.restore, inside.machine):
        with stage.guarded(f"inside: {part.__name__}"):
            stage.say(f"{part.__name__} ...")
            part()


if __name__ == "__main__":
    main()
