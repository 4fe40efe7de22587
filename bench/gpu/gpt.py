"""The stage with the large model: iterations, copies, restore, verified snapshots, a trace.

All works share one training.  The first Checkpointer verifies a sample only and has a persistent
folder; the second one, made by the first work that needs it, digests every snapshot on the device,
and begins with the restore of what the first one left.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Sequence

import holdfast
import torch
from report import Reach, Row, alone, compared, median

from blocks import Block, Flushing, Ours, Runner, Steps, Way
from device import Bare, Device
from model import Batch, Training
from reference import Reference, verdict
from settings import Skipped, Stage, percentile
from tracing import trace

# Of the device's memory: staging of a whole state, the ceiling's buffer, rooms.
KEPT_FREE = 14 << 30
ISSUED_SECONDS = 0.02
STAGING_WARM_UP = 4  # the first one finds out that staging helps, the second one makes its memory


class Gpt:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.sizes = stage.sizes
        self.device = Device(stage.settings.device)
        self.training = Training(self.sizes, self.device)
        self.training.iterate()  # the optimizer's state appears
        self.bytes = self.training.bytes()
        self.size = f"{self.bytes / 1e9:.3g} GB"
        tensors = len(self.training.state())
        stage.say(f"  {self.size} in {tensors} tensors")
        self.runner = Runner(
            self.training, pathlib.Path(stage.settings.out) / "iterations.csv",
            self.sizes.iterations,
        )  # fmt: skip
        self.tier = pathlib.Path(stage.settings.memory) / "tier"
        self.tier.mkdir()
        self.steps = Steps()
        self.checkpointer = holdfast.Checkpointer(
            "gpt", model=self.training.model, optimizer=self.training.optimizer,
            persist=holdfast.Tier(self.tier, node_local=True, every=self.steps.flushed,
                                  keep_last=1),
            slots=self.sizes.slots,
        )  # fmt: skip
        self.closed = False
        self.verifying = False
        self._reference: Reference | None = None
        self._batches: dict[str, Batch] = {}
        self.checkpointer.restore()
        self._ready()

    def _ready(self) -> None:
        """Takes snapshots until all slots are there and pinned: the daemon makes a slot when the one
        before is taken, and the first snapshots would be skipped or share the machine with that."""
        began = newest = time.monotonic()
        self.checkpointer.prepare(180)
        ready = -1
        while self.device.pins and ready < self.sizes.slots:
            stats = self.checkpointer.stats
            if stats.pinned_slots + stats.unpinned_slots != ready:
                ready, newest = stats.pinned_slots + stats.unpinned_slots, time.monotonic()
            elif time.monotonic() > newest + 20:
                break  # the daemon grants no more
            self.checkpointer.snapshot(self.steps.next())
            self.checkpointer.fence()
            time.sleep(0.1)
        # What follows measures how long an iteration takes: nothing may be under way any more.
        while self.checkpointer.stats.last_sealed_step < self.checkpointer.stats.last_begun_step:
            if time.monotonic() > newest + 30:
                break
            time.sleep(0.05)
        stats = self.checkpointer.stats
        self.stage.say(
            f"  slots ready after {time.monotonic() - began:.1f} s: {stats.pinned_slots} pinned, "
            f"{stats.unpinned_slots} not"
        )

    @property
    def reference(self) -> Reference:
        if self._reference is None:
            size = max(Reference.size(self.training.state()), self.bytes)
            self._host = self.device.host_buffer(size)
            self._reference = Reference(self.device, self._host)
        return self._reference

    def bare(self) -> Bare:
        """Of exactly the state's bytes; overwrites the reference."""
        assert self.reference is not None
        return Bare(self.device, self._host[: self.bytes])

    def use_batch(self, kind: str, wanted: float) -> str:
        if kind not in self._batches:
            batch = self.training.calibrate(wanted, KEPT_FREE)
            self._batches[kind] = batch
            self.stage.keep_facts(**{f"{kind}_batch": [batch.rows, batch.length, batch.parts]})
            self.stage.say(f"  an iteration of {wanted:.0f} ms: {batch}")
        self.training.batch = self._batches[kind]
        return f"iteration of {wanted:.0f} ms"

    def pressed(self) -> Callable[[], bool]:
        """Whether the rest of the stage needs the time more than another round does."""
        return lambda: self.stage.left() < 45

    # ---- a snapshot whose bytes are known ----

    def witnessed(self, step: int) -> None:
        """Takes a snapshot and a synchronous copy of the same state, then trains on."""
        self.checkpointer.fence()
        self.checkpointer.prepare(60)
        self.reference.take(self.training.state(), step)
        result = self.checkpointer.snapshot(step)
        if not result:
            raise RuntimeError(f"the snapshot of step {step} was skipped: {result.reason}")
        self.training.iterate(self.checkpointer.fence)
        self.checkpointer.wait(step)

    def second(self) -> None:
        """Makes the second Checkpointer, from a snapshot of which the reference has the bytes."""
        if self.verifying:
            return
        self.leave_witnessed()
        self.verifying = True
        step, _ = self.restore_once(self.sizes.slots)
        self.check_restored(step, "restore by another Checkpointer")
        self._ready()

    def leave_witnessed(self) -> None:
        """Ends the Checkpointer with a snapshot of which the reference has the bytes."""
        if self.reference.step < 0 or not self.closed:
            self.witnessed(self.steps.next())
            self.checkpointer.close(drain=False)
            self.closed = True

    def restore_once(self, slots: int) -> tuple[int, float]:
        """A new Checkpointer, since each restores once: the step, and the seconds of restore()."""
        self.checkpointer = holdfast.Checkpointer(
            "gpt", model=self.training.model, optimizer=self.training.optimizer, slots=slots,
            verify_every=1,
        )  # fmt: skip
        self.training.destroy()
        self.device.sync()
        began = time.perf_counter()
        step = self.checkpointer.restore()
        self.device.sync()
        return step, time.perf_counter() - began

    def check_restored(self, step: int, work: str) -> None:
        self.device.sync()
        found = self.reference.differences(self.training.state())
        right = step == self.reference.step and not found
        note = f"step {step}, taken at {self.reference.step}; {verdict(found)}"
        self.stage.add(Row(work, "", reach="same bytes", ok=right, note=note))

    # ---- iterations ----

    def row(
        self, work: str, blocks: Sequence[Block], ceiling: Sequence[float], most: float, note: str
    ) -> None:
        skipped = [reason for block in blocks for reason in block.skipped]
        wait = median([b.device_wait_ms for b in blocks])
        stats = self.checkpointer.stats
        note += f"; {len(blocks)} rounds, update held up {wait:.1f} ms"
        if skipped:
            note += f"; {len(skipped)} SKIPPED: {skipped[0]}"
        if stats.torn or stats.failed:
            note += f"; {stats.torn} torn, {stats.failed} failed"
        row = compared(work, "ms", [b.mean() for b in blocks], ceiling,
                       Reach("ratio", most=most), note)  # fmt: skip
        if skipped or stats.torn or stats.failed:
            row.ok = False  # what was not done cost nothing
        self.stage.add(row)

    def iteration(self) -> None:
        what = self.use_batch("slow", self.sizes.slow_ms)
        ours = Ours("ours", self.checkpointer, self.steps)
        found = self.runner.turns(what, [Way(), ours], self.sizes.rounds, enough=self.pressed())
        none = [b.mean() for b in found["none"]]
        self.stage.keep_facts(slow_none_ms=median(none))
        self.row(f"{what}, snapshot every step", found["ours"], none, 1.005, "ceiling: none")
        self.thread_rows(found["ours"])

    def flush(self) -> None:
        what = self.use_batch("slow", self.sizes.slow_ms)
        flushing = Flushing("flush", self.checkpointer, self.steps)
        found = self.runner.turns(what, [Way(), flushing], self.sizes.side_rounds,
                                  enough=self.pressed())  # fmt: skip
        self.row(f"{what}, the same with a flush every 10th", found["flush"],
                 [b.mean() for b in found["none"]], 1.01, "ceiling: none; to tmpfs")  # fmt: skip
        self.steps.before_flush()
        step = self.steps.any()
        self.witnessed(step)
        self.check_file(step)

    def check_file(self, step: int) -> None:
        deadline = time.monotonic() + 60
        while self.checkpointer.stats.last_durable_step < step:
            if time.monotonic() > deadline:
                raise TimeoutError(f"step {step} is not durable after 60 s")
            time.sleep(0.02)
        (path,) = self.tier.glob(f"*/step-*{step:08d}.i*/**/rank-*.safetensors")
        found = self.reference.differences_in_file(path)
        self.stage.add(Row("file of a flushed step", "", reach="same bytes", ok=not found,
                           note=f"step {step}; {verdict(found)}"))  # fmt: skip

    def thread_rows(self, blocks: Sequence[Block]) -> None:
        for what in ("snapshot", "fence"):
            taken = [us / 1e3 for b in blocks for us in getattr(b, f"{what}_us")]
            name = f"training thread in {what}()"
            note = f"{len(taken)} calls, worst {max(taken):.3f} ms"
            self.stage.add(
                alone(f"{name}, median", "ms", median(taken), Reach("ours", most=0.2, unit="ms"),
                      note),
                alone(f"{name}, p99", "ms", percentile(taken, 0.99),
                      Reach("ours", most=1.0, unit="ms")),
            )  # fmt: skip

    def fast(self) -> None:
        what = self.use_batch("fast", self.sizes.fast_ms)
        ways = [Way(), Ours("ours", self.checkpointer, self.steps),
                Ours("ours, every 2nd", self.checkpointer, self.steps, every=2)]  # fmt: skip
        bare = self.bare()
        alone_ms: list[float] = []
        found = self.runner.turns(
            what, ways, self.sizes.rounds, STAGING_WARM_UP,
            lambda: alone_ms.append(1e3 * bare.copy(to_host=True)), self.pressed(),
        )  # fmt: skip
        none = [b.mean() for b in found["none"]]
        most = [max(pair) for pair in zip(none, alone_ms)]
        self.row(f"{what}, snapshot every step", found["ours"], most, 1.03,
                 f"ceiling: the longer of none ({median(none):.1f} ms) and the bare copy "
                 f"({median(alone_ms):.1f})")  # fmt: skip
        self.row(f"{what}, every 2nd step, staged", found["ours, every 2nd"], none, 1.03,
                 "ceiling: none")  # fmt: skip

    def verify(self) -> None:
        what = self.use_batch("slow", self.sizes.slow_ms)
        self.second()
        ours = Ours("verified", self.checkpointer, self.steps)
        found = self.runner.turns(what, [Way(), ours], self.sizes.side_rounds,
                                  enough=self.pressed())  # fmt: skip
        none = [b.mean() for b in found["none"]]
        self.row(f"{what}, every step digested on the device", found["verified"], none, 1.01,
                 "ceiling: none")  # fmt: skip

    # ---- copies ----

    def copy(self) -> None:
        self.checkpointer.fence()
        bare = self.bare()
        ours, ceiling, sealed = [], [], []
        for i in range(self.sizes.rounds + 1):
            self.checkpointer.prepare(60)
            copied, behind = self._copy_once(self.steps.next())
            rate = bare.rate(to_host=True)
            if i:
                ours.append(self.bytes / copied / 1e9)
                sealed.append(1e3 * behind)
                ceiling.append(rate)
        last = self.checkpointer.stats.last_copy_ns / 1e6
        self.stage.add(
            compared(f"copy rate, {self.size}", "GB/s", ours, ceiling, Reach("ratio", least=0.97),
                     f"ceiling: bare copy; from the call to the last byte, the last one {last:.0f} "
                     "ms with its digests"),
            alone(f"sealed after the copy is done, {self.size}", "ms", median(sealed),
                  Reach("ours", most=100, unit="ms"), f"worst {max(sealed):.0f} ms"),
        )  # fmt: skip

    def _copy_once(self, step: int) -> tuple[float, float]:
        """Seconds until every byte has landed, and from then until the snapshot is sealed."""
        self.device.sync()
        began = time.perf_counter()
        result = self.checkpointer.snapshot(step)
        self.checkpointer.fence()
        # What was staged on the device is issued to the host after the fence has opened.
        time.sleep(ISSUED_SECONDS)
        self.device.sync()
        landed = time.perf_counter()
        if not result:
            raise RuntimeError(f"a snapshot was skipped: {result.reason}")
        while self.checkpointer.stats.last_sealed_step < step:
            if time.perf_counter() > landed + 30:
                raise TimeoutError(f"step {step} was not sealed within 30 s")
            time.sleep(0.0005)
        return landed - began, time.perf_counter() - landed

    def restore(self) -> None:
        if self.verifying:
            raise Skipped("the second Checkpointer has gone on from the first one's snapshot")
        self.leave_witnessed()
        there = torch.empty(self.bytes // 4, dtype=torch.uint8, device=self.device.torch)
        ours, ceiling, steps = [], [], []
        for i in range(self.sizes.side_rounds + 1):
            step, took = self.restore_once(slots=2)
            rate = self._rate_to_device(there)
            self.checkpointer.close(drain=False)
            steps.append(step)
            if i:
                ours.append(self.bytes / took / 1e9)
                ceiling.append(rate)
        self.stage.keep_facts(restore_gbs=median(ours))
        self.stage.add(
            compared(f"restore to the device, digests checked, {self.size}", "GB/s", ours, ceiling,
                     Reach("ratio", least=0.90), "ceiling: bare copy; the whole call, "
                     f"{self.bytes / median(ours) / 1e6:.0f} ms"),
        )  # fmt: skip
        self.check_restored(steps[-1], "restore, the last of the row")

    def _rate_to_device(self, there: torch.Tensor) -> float:
        """The bare copy of as many bytes, out of the reference, which stays as it is."""
        self.device.sync()
        began = time.perf_counter()
        for at in range(0, self.bytes, there.numel()):
            part = self._host[at : min(at + there.numel(), self.bytes)]
            there[: part.numel()].copy_(part, non_blocking=True)
        self.device.sync()
        return self.bytes / (time.perf_counter() - began) / 1e9

    # ---- what it looks like ----

    def trace(self) -> None:
        self.use_batch("slow", self.sizes.slow_ms)
        ours = Ours("ours", self.checkpointer, self.steps)
        path = pathlib.Path(self.stage.settings.out) / "trace.json.gz"
        self.stage.add(trace("trace of 3 iterations", self.training, ours, path))


def main() -> None:
    stage = Stage.of_arguments()
    gpt = Gpt(stage)
    stage.run({
        "iteration": gpt.iteration, "flush": gpt.flush, "fast": gpt.fast, "copy": gpt.copy,
        "trace": gpt.trace, "restore": gpt.restore, "verify": gpt.verify,
    }, reserve=15.0)  # fmt: skip
    gpt.checkpointer.close(drain=False)


if __name__ == "__main__":
    main()
