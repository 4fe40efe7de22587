"""The stage of torn copies: writers that do not wait for the fence are caught, each time, and a
training that does is never accused.

A state of a gigabyte takes some 20 ms to copy, and each writer begins within the first of them: so
every copy of these attempts is torn for sure.  Where the host gave the write to the device only
after the time that a copy takes at least, and the snapshot was not torn, there was no attempt: it is made
again, and the row says so.  On the host the copies wait for a file (a failpoint).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import pathlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import holdfast
import torch
from report import Row
from torch import nn

import simulated
from device import Device
from reference import Reference, verdict
from settings import Skipped, Stage, counted

_cuda: Any = torch.cuda


class Pile(nn.Module):
    """Parameters without a computation, so that an update comes as early as it can."""

    def __init__(self, tensors: int, elements: int, device: Device) -> None:
        super().__init__()
        self.parts = nn.ParameterList(
            nn.Parameter(torch.randn(elements, device=device.torch)) for _ in range(tensors)
        )
        for part in self.parts:
            part.grad = torch.randn_like(part)


class Slowly:
    """Holds copies back until let_go(): a simulated device's, and those of the host's engine; a GPU's
    take their time by themselves."""

    def __init__(self, stage: Stage) -> None:
        self._simulated = stage.settings.simulated
        self._host = not stage.settings.cuda and not self._simulated
        self._file = pathlib.Path(stage.settings.scratch) / "go"

    @contextlib.contextmanager
    def copies(self) -> Iterator[None]:
        if self._host:
            self._file.unlink(missing_ok=True)
            holdfast.arm_failpoints(f"client.copy.chunk=wait:{self._file}")
        if self._simulated:
            simulated.hold_copies(True)
        try:
            yield
        finally:
            self.let_go()
            holdfast.arm_failpoints("")

    def let_go(self) -> None:
        if self._host:
            self._file.touch()
        if self._simulated:
            simulated.hold_copies(False)


FASTEST_LINK = 64e9  # bytes a second: PCIe 5 at its nominal rate
MOST_LATE = 5


@dataclasses.dataclass
class Found:
    """What became of the attempts; late: those whose write came after the copies."""

    torn: int = 0
    sealed: int = 0
    late: int = 0


class Scenario:
    """One writer that does not wait.  Everything of one is freed with it."""

    def __init__(self, stage: Stage, name: str, adam: dict[str, Any]) -> None:
        self.stage, self.sizes = stage, stage.sizes
        self.device = Device(stage.settings.device)
        self.model = Pile(self.sizes.torn_tensors, self.sizes.torn_elements, self.device)
        self.average = copy.deepcopy(self.model) if name == "average" else None
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, **adam)
        self.optimizer.step()
        models = {"net": self.model}
        if self.average is not None:
            models["average"] = self.average
        self.checkpointer = holdfast.Checkpointer(
            f"torn-{name}", model=models, optimizer=self.optimizer, auto_fence=False,
            verify_every=1, slots=4,
        )  # fmt: skip
        self.checkpointer.restore()
        self.slowly = Slowly(stage)

    def attempts(self, write: Callable[[], None]) -> Found:
        result = Found()
        step = 0
        gc.collect()
        gc.disable()  # a collection takes longer than the copies, and the write would come after them
        while result.torn + result.sealed < self.sizes.torn_times and self.stage.left() > 5:
            step += 1
            self._attempt(step, write, result)
        gc.enable()
        return result

    def _attempt(self, step: int, write: Callable[[], None], result: Found) -> None:
        self.checkpointer.prepare(30)
        torn = self.checkpointer.stats.torn
        with self.slowly.copies():
            began = time.monotonic()
            self._start(step)
            write()
            launched = time.monotonic() - began
        self.device.sync()
        self.checkpointer.fence()
        self._settled()
        stats = self.checkpointer.stats
        copy_seconds = stats.image_bytes / FASTEST_LINK
        if stats.torn > torn:
            result.torn += 1
        elif self.device.cuda and launched > copy_seconds and result.late < MOST_LATE:
            result.late += 1
        else:
            result.sealed += 1

    def _start(self, step: int) -> None:
        deadline = time.monotonic() + 10
        while not (result := self.checkpointer.snapshot(step)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"a snapshot was skipped: {result.reason}")
            time.sleep(0.001)

    def _settled(self) -> None:
        """Until it is known how each snapshot has ended."""
        deadline = time.monotonic() + 30
        while True:
            stats = self.checkpointer.stats
            if stats.sealed + stats.torn + stats.failed >= stats.begun:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"a snapshot did not end: {stats}")
            time.sleep(0.0005)

    def update(self) -> None:
        self.optimizer.step()

    def blend(self) -> None:
        """The average goes on by itself, on a stream of its own or in a thread; the optimizer
        waits as it should."""
        assert self.average is not None
        ours: list[torch.Tensor] = list(self.average.parameters())
        theirs: list[torch.Tensor] = list(self.model.parameters())

        def work() -> None:
            with torch.no_grad():
                torch._foreach_lerp_(ours, theirs, 0.1)

        if self.device.cuda:
            stream = _cuda.Stream()
            stream.wait_stream(_cuda.current_stream())
            with _cuda.stream(stream):
                work()
        else:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            self.slowly.let_go()
        self.checkpointer.fence()
        self.optimizer.step()

    def graph(self) -> Callable[[], None]:
        """The update as a CUDA graph."""
        side = _cuda.Stream()
        side.wait_stream(_cuda.current_stream())
        with _cuda.stream(side):
            self.optimizer.step()
        _cuda.current_stream().wait_stream(side)
        graph = _cuda.CUDAGraph()
        with _cuda.graph(graph):
            self.optimizer.step()
        replay: Callable[[], None] = graph.replay
        return replay


def torn(stage: Stage) -> None:
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("graph", "an update replayed as a CUDA graph", {"capturable": True}),
        ("plain", "an update without the fence", {}),
        ("fused", "a fused update without the fence", {"fused": True}),
        ("average", "an average written on another stream", {"fused": True}),
    ]
    for name, what, adam in kinds:
        with stage.guarded(what):
            if name == "graph" and not stage.settings.cuda:
                raise Skipped("there is no CUDA graph without a GPU")
            scenario = Scenario(stage, name, adam)
            try:
                write = {"average": scenario.blend}.get(name, scenario.update)
                write = scenario.graph() if name == "graph" else write
                found = scenario.attempts(write)
            finally:
                scenario.checkpointer.finish()
                scenario.checkpointer.close(drain=False)
            del scenario, write
            note = f"of {found.torn + found.sealed}; {found.sealed} were sealed"
            if found.late:
                note += f"; {found.late} made again: the write came after the copies"
            stage.add(counted(f"torn: {what}", found.torn, stage.sizes.torn_times, note))


def calm(stage: Stage) -> None:
    """A small training with the fence: nothing may be found torn, whatever the timing."""
    device = Device(stage.settings.device)
    model = nn.Sequential(nn.Linear(64, 512), nn.GELU(), nn.Linear(512, 512), nn.Linear(512, 8))
    model.to(device.torch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, fused=True)
    # Many slots, so that few of so quick steps are skipped.
    checkpointer = holdfast.Checkpointer(
        "calm", model=model, optimizer=optimizer, verify_every=1, slots=8
    )
    checkpointer.restore()
    x = torch.randn(32, 64, device=device.torch)

    def train() -> None:
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    train()
    checkpointer.prepare(30)
    began, step = time.monotonic(), 0
    while step < stage.sizes.calm_steps and stage.left() > 10:
        step += 1
        train()
        checkpointer.snapshot(step)
    train()
    device.sync()
    took = time.monotonic() - began
    stats = checkpointer.stats
    row = Row("false alarms with the fence", "times", float(stats.torn), reach="<= 0",
              note=f"{step} steps in {took:.0f} s, {stats.begun} snapshots, {stats.skipped} skipped, "
              f"{stats.failed} failed")  # fmt: skip
    row.ok = stats.torn == 0 and stats.failed == 0 and step >= stage.sizes.calm_steps
    stage.add(row)
    _same_bytes(stage, device, checkpointer, model, optimizer, step + 1, train)


def _same_bytes(
    stage: Stage, device: Device, checkpointer: holdfast.Checkpointer, model: nn.Module,
    optimizer: torch.optim.Optimizer, step: int, train: Callable[[], None],
) -> None:  # fmt: skip
    def state() -> dict[str, torch.Tensor]:
        tensors = [*model.parameters(), *(t for s in optimizer.state.values() for t in s.values())]
        return {str(i): t.detach() for i, t in enumerate(tensors)}

    reference = Reference(device, device.host_buffer(Reference.size(state())))
    checkpointer.prepare(30)
    reference.take(state(), step)
    if not checkpointer.snapshot(step):
        raise RuntimeError("the snapshot to compare was skipped")
    train()
    checkpointer.wait(step)
    checkpointer.close()
    again = holdfast.Checkpointer("calm", model=model, optimizer=optimizer)
    found = again.restore()
    device.sync()
    wrong = reference.differences(state())
    again.close(drain=False)
    stage.add(Row("restore after so many snapshots", "", reach="same bytes",
                  ok=found == step and not wrong, note=f"step {found}; {verdict(wrong)}"))  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    stage = Stage.of_arguments()
    stage.run({"torn": lambda: torn(stage), "calm": lambda: calm(stage)})


if __name__ == "__main__":
    main()
