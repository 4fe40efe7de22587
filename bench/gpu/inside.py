"""The stage that looks inside: where the time of a snapshot, a fence and a restore goes.

Nothing here is judged; it is for whoever asks why a row of another stage was missed.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import time
from typing import Any

import holdfast
import torch
from holdfast import _attempts, _client, _layout, _registration, _restore, _sidecar
from report import Row, median

from blocks import Ours, Steps, run_block
from device import Device
from model import Training
from pages import Pages, huge_folder
from settings import GB, Stage, percentile

_cuda: Any = torch.cuda  # partly without types


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
        self.host: torch.Tensor | None = None

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
        for _ in range(200 if self.device.pins else 0):
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
        for threads in (0, 12):
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
            self.bare_beside(wanted)
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

    def bare_beside(self, wanted: float) -> None:
        """Plain copies of one buffer while the training runs: what its kernels leave of the link."""
        if not self.device.cuda:
            return
        size = 2 * GB
        source = torch.empty(size, dtype=torch.uint8, device=self.device.torch)
        if self.host is None:
            self.host = self.device.host_buffer(size)
        stream = _cuda.Stream()
        rates = {}
        for beside in (False, True):
            self.device.sync()
            marks = []
            with _cuda.stream(stream):
                for _ in range(11):
                    self.host.copy_(source, non_blocking=True)
                    marks.append(_cuda.Event(enable_timing=True))
                    marks[-1].record()
            for _ in range(max(1, int(500 / wanted)) if beside else 0):
                self.training.iterate()
            self.device.sync()
            seconds = marks[0].elapsed_time(marks[-1]) / 1e3
            rates[beside] = (len(marks) - 1) * size / seconds / 1e9
        self.note(f"bare copy to the host, iterations of {wanted:.0f} ms",
                  f"alone {rates[False]:.1f} GB/s, beside the training {rates[True]:.1f}")  # fmt: skip

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
        clocked.watch(_sidecar.Sidecar, "__init__", "Sidecar")
        clocked.watch(_registration.Registration, "begin", "told the layout")
        clocked.watch(_layout.Layout, "__init__", "Layout")
        clocked.watch(_client.Client, "set_layout")
        clocked.watch(_client.Restore, "free")
        clocked.watch(_attempts.Attempts, "run", "Attempts.run")
        for threads in (0, 0, 0, 8):
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
            Pages(self.stage, self.device, folder, min(6 * GB, self.bytes)).all()


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
