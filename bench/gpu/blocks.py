"""Iterations in blocks: the ways to save take turns, block by block, in one process.

A block begins with iterations that are not counted, so that in each one that is, the copies of the
snapshot before are under way, as they are in a training.  Nothing waits for the device inside it.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence

from holdfast import AbandonedError, Checkpointer

from model import Training

_COLUMNS = ["work", "method", "round", "iteration", "ms", "snapshot_us", "fence_us", "skipped"]


@dataclasses.dataclass
class Block:
    milliseconds: list[float]
    snapshot_us: list[float]
    fence_us: list[float]
    skipped: list[str]
    device_wait_ms: float = 0.0

    def mean(self) -> float:
        """Of an iteration.  The mean, for what stalls one in ten counts too."""
        return statistics.fmean(self.milliseconds)


class Way:
    """A way to save; this one saves nothing."""

    name = "none"

    def begin(self) -> None:
        self.snapshot_us: list[float] = []
        self.fence_us: list[float] = []
        self.skipped: list[str] = []

    def before_update(self) -> None:
        self.fence_us.append(0.0)

    def after_update(self) -> None:
        self.snapshot_us.append(0.0)

    def end(self) -> None:
        """Waits for what is under way: it must not run beside another way's block."""

    def device_wait_ms(self) -> float:
        return 0.0


class Steps:
    """Numbers for snapshots, rising over all blocks; multiples of "flushed" are for those that are
    to be made durable."""

    def __init__(self, flushed: int = 10) -> None:
        self.flushed = flushed
        self.last = 0

    def next(self) -> int:
        self.last += 1
        if self.last % self.flushed == 0:
            self.last += 1
        return self.last

    def before_flush(self) -> None:
        """The next number of any() will be a multiple."""
        self.last += self.flushed - 1 - self.last % self.flushed

    def any(self) -> int:
        self.last += 1
        return self.last


class Ours(Way):
    def __init__(
        self, name: str, checkpointer: Checkpointer, steps: Steps, every: int = 1
    ) -> None:
        self.name = name
        self.checkpointer = checkpointer
        self.steps = steps
        self._every = every
        self._iteration = 0
        self._waited = 0

    def begin(self) -> None:
        super().begin()
        self._iteration = 0
        self._waited = self.checkpointer.stats.device_wait_ns

    def before_update(self) -> None:
        began = time.perf_counter_ns()
        self.checkpointer.fence()
        self.fence_us.append((time.perf_counter_ns() - began) / 1e3)

    def number(self) -> int:
        return self.steps.next()

    def after_update(self) -> None:
        self._iteration += 1
        if self._iteration % self._every:
            self.snapshot_us.append(0.0)
            return
        step = self.number()
        began = time.perf_counter_ns()
        result = self.checkpointer.snapshot(step)
        self.snapshot_us.append((time.perf_counter_ns() - began) / 1e3)
        if not result:
            self.skipped.append(result.reason)

    def end(self) -> None:
        self.checkpointer.fence()
        newest = self.checkpointer.stats.last_begun_step
        if newest >= 0:
            with contextlib.suppress(AbandonedError):  # counted as torn or failed
                self.checkpointer.wait(newest)

    def device_wait_ms(self) -> float:
        return (self.checkpointer.stats.device_wait_ns - self._waited) / 1e6


class Flushing(Ours):
    """Every tenth snapshot is written to the persistent folder, all the time."""

    def begin(self) -> None:
        super().begin()
        self.steps.before_flush()

    def number(self) -> int:
        return self.steps.any()

    def end(self) -> None:
        super().end()
        flushed = self.steps.last // self.steps.flushed * self.steps.flushed
        deadline = time.monotonic() + 30
        while self.checkpointer.stats.last_durable_step < flushed:
            if time.monotonic() > deadline:
                raise TimeoutError(f"step {flushed} is not durable after 30 s")
            time.sleep(0.02)


def run_block(
    training: Training,
    way: Way,
    iterations: int,
    warm_up: int,
    before_end: Callable[[], None] = lambda: None,
) -> Block:
    device = training.device
    way.begin()
    marks = []
    for i in range(warm_up + iterations):
        if i == warm_up:
            marks.append(device.mark())
        training.iterate(way.before_update)
        way.after_update()
        if i >= warm_up:
            marks.append(device.mark())
    device.sync()
    times = [device.between(a, b) for a, b in zip(marks, marks[1:])]
    before_end()
    way.end()
    return Block(
        times, way.snapshot_us[-iterations:], way.fence_us[-iterations:], way.skipped,
        way.device_wait_ms() / (warm_up + iterations),
    )  # fmt: skip


class Runner:
    """Blocks of one training, kept in a CSV file."""

    def __init__(self, training: Training, path: pathlib.Path, iterations: int) -> None:
        self.training = training
        self.iterations = iterations
        self._path = path

    def turns(
        self,
        work: str,
        ways: Sequence[Way],
        rounds: int,
        warm_up: int = 2,
        each_round: Callable[[], None] = lambda: None,
        enough: Callable[[], bool] = lambda: False,
    ) -> dict[str, list[Block]]:
        """Blocks by the way's name.  Who begins a round changes.  "enough" ends it early, after
        two rounds."""
        found: dict[str, list[Block]] = {way.name: [] for way in ways}
        for i in range(rounds):
            if i >= 2 and enough():
                break
            shift = i % len(ways)
            for way in [*ways[shift:], *ways[:shift]]:
                block = run_block(self.training, way, self.iterations, warm_up)
                found[way.name].append(block)
                self._keep(work, way.name, i, block)
            each_round()
        return found

    def _keep(self, work: str, name: str, number: int, block: Block) -> None:
        new = not self._path.exists()
        with open(self._path, "a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(_COLUMNS)
            rows = zip(block.milliseconds, block.snapshot_us, block.fence_us)
            for i, (ms, snapshot, fence) in enumerate(rows):
                writer.writerow(
                    [work, name, number, i, f"{ms:.3f}", f"{snapshot:.1f}", f"{fence:.1f}",
                     len(block.skipped)]
                )  # fmt: skip
