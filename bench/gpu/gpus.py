"""The stage of two GPUs: DistributedDataParallel and FSDP2 with a rank on each, one daemon, all
links at once.

Started by run.py it starts itself again as each rank.  A dry run has two ranks on the host.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import holdfast
import torch
import torch.distributed as dist
from report import Reach, Row, compared, median
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from blocks import Ours, Steps, Way, run_block
from device import Bare, Device
from model import Batch, Training
from reference import Reference, verdict
from settings import Stage
from tracing import trace

RANKS = 2
SLOTS = 4
ISSUED_SECONDS = 0.02


class Rank:
    """One of the ranks, with its model wrapped by "kind"."""

    def __init__(self, stage: Stage, kind: str, host: torch.Tensor | None) -> None:
        self.stage, self.sizes = stage, stage.sizes
        self.kind = kind
        self.slots = min(SLOTS, self.sizes.slots)
        self.rank = dist.get_rank()
        self.device = Device(stage.settings.device, self.rank)
        self.training = Training(self.sizes, self.device, self._wrap)
        self.training.batch = Batch(min(8, 2 * self.sizes.layers), self.sizes.length)
        self.say(f"{kind}: the first iteration ...")
        self.training.iterate()
        self.bytes = self.training.bytes()
        size = max(self.bytes, Reference.size(self.training.state()))
        # A device's memory stays registered: it is made once.
        self.host = self.device.host_buffer(size) if host is None else host[:size]
        self.reference = Reference(self.device, self.host)
        self.steps = Steps()
        self.bare_ms: list[float] = []
        self.checkpointer = self._checkpointer()
        self.say("slots ...")
        self.checkpointer.restore()
        self.checkpointer.prepare(120)

    def _wrap(self, model: nn.Module) -> nn.Module:
        if self.kind == "DDP":
            devices = [self.rank] if self.device.cuda else None
            return DistributedDataParallel(model, device_ids=devices)
        for block in model.blocks:  # type: ignore[union-attr]
            fully_shard(block)
        fully_shard(model)
        return model

    def say(self, text: str) -> None:
        if self.rank == 0:
            self.stage.say(text)

    def _checkpointer(self, again: bool = False) -> holdfast.Checkpointer:
        return holdfast.Checkpointer(
            f"gpus-{self.kind}", model=self.training.model, optimizer=self.training.optimizer,
            slots=self.slots,
            take_over=again,  # the processes of the first one are these, and do not end
        )  # fmt: skip

    def add(self, row: Row) -> None:
        if self.rank == 0:
            self.stage.add(row)

    def together(self, number: float) -> list[float]:
        """Every rank's."""
        found: list[Any] = [None] * RANKS
        dist.all_gather_object(found, number)
        return [float(n) for n in found]

    def all_rates(self, seconds: float) -> float:
        """GB/s of all ranks."""
        return sum(self.bytes / each / 1e9 for each in self.together(seconds))

    def copy(self) -> None:
        bare = Bare(self.device, self.host[: self.bytes])
        self._all_slots()
        ours: list[float] = []
        ceiling: list[float] = []
        for i in range(self.sizes.rounds + 1):
            step = self.steps.next()
            self.checkpointer.prepare(60)
            dist.barrier()
            self.device.sync()
            began = time.perf_counter()
            result = self.checkpointer.snapshot(step)
            self.checkpointer.fence()
            # What was staged on the device is issued to the host after the fence has opened.
            time.sleep(ISSUED_SECONDS)
            self.device.sync()
            took = time.perf_counter() - began
            if not result:
                raise RuntimeError(f"a snapshot was skipped: {result.reason}")
            self.checkpointer.wait(step)
            rate = self.all_rates(took)
            dist.barrier()
            alone = bare.copy(to_host=True)
            plain = self.all_rates(alone)
            self.bare_ms.append(1e3 * max(self.together(alone)))
            if i:
                ours.append(rate)
                ceiling.append(plain)
        size = f"{RANKS} x {self.bytes / 1e9:.3g} GB"
        self.add(compared(f"copy rate of all GPUs at once, {self.kind}, {size}", "GB/s", ours, ceiling,
                          Reach("ratio", least=0.97), "ceiling: all bare copies at once"))  # fmt: skip

    def _all_slots(self) -> None:
        """Until they are there and pinned: the daemon makes one when the one before is taken."""
        for _ in range(60 if self.device.pins else 1):
            stats = self.checkpointer.stats
            if min(self.together(stats.pinned_slots + stats.unpinned_slots)) >= self.slots:
                break
            self.checkpointer.snapshot(self.steps.next())
            self.checkpointer.fence()
            time.sleep(0.5)
        with contextlib.suppress(holdfast.AbandonedError):  # skipped by the other rank
            self.checkpointer.wait(self.steps.last)

    def iterations(self) -> None:
        ours = Ours("ours", self.checkpointer, self.steps)
        means: dict[str, list[float]] = {"none": [], "ours": []}
        skipped: list[str] = []
        for _ in range(self.sizes.side_rounds):
            for way in (Way(), ours):
                dist.barrier()
                block = run_block(self.training, way, self.sizes.iterations, 2)
                means[way.name].append(max(self.together(block.mean())))
                skipped += block.skipped
        lost = int(sum(self.together(len(skipped))))
        why = f", the first because {skipped[0]}" if skipped else ""
        row = compared(
            f"iteration of {median(means['none']):.0f} ms under {self.kind}, snapshot every step", "ms",
            means["ours"], [max(each, median(self.bare_ms)) for each in means["none"]], None,
            f"ceiling: the longer of none and both bare copies at once; {lost} skipped{why}",
        )  # fmt: skip
        self.add(row)

    def trace(self) -> None:
        ours = Ours("ours", self.checkpointer, self.steps)
        name = f"trace-{self.kind}-{self.rank}.json.gz"
        path = pathlib.Path(self.stage.settings.out) / name
        dist.barrier()
        self.add(trace(f"trace of 3 iterations under {self.kind}", self.training, ours, path))

    def same_bytes(self) -> None:
        step = self.steps.next()
        self.checkpointer.prepare(60)
        self.reference.take(self.training.state(), step)
        if not self.checkpointer.snapshot(step):
            raise RuntimeError("the snapshot to compare was skipped")
        self.training.iterate(self.checkpointer.fence)
        self.checkpointer.wait(step)
        dist.barrier()
        self.checkpointer.close(drain=False)
        dist.barrier()
        self.training.destroy()
        self.checkpointer = self._checkpointer(again=True)
        found = self.checkpointer.restore()
        self.device.sync()
        wrong = self.reference.differences(self.training.state())
        right = self.together(float(found == step and not wrong))
        self.add(Row(f"restore of all ranks, {self.kind}", "", reach="same bytes", ok=all(right),
                     note=f"step {found}; rank 0: {verdict(wrong)}"))  # fmt: skip

    def run(self) -> None:
        works = [self.copy, self.iterations, self.trace, self.same_bytes]
        for work in works:
            with self.stage.guarded(f"{RANKS} GPUs, {self.kind}: {work.__name__}"):
                work()
                continue
            raise SystemExit(1)  # the other rank waits for this one in vain
        self.checkpointer.close(drain=False)


def launch(arguments: Sequence[str]) -> int:
    """Starts the ranks.  Not by torchrun: a machine without a network may take minutes to find that
    it cannot look up its own name."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "OMP_NUM_THREADS": "4", **os.environ, "WORLD_SIZE": str(RANKS),
        "LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(RANKS)
    ]
    code = 0
    try:
        while ranks:
            for rank in [r for r in ranks if r.poll() is not None]:
                ranks.remove(rank)
                if rank.returncode != 0:
                    code = code or rank.returncode
                    for other in ranks:  # which waits for this one in vain
                        other.terminate()
            time.sleep(0.05)
    finally:
        for rank in ranks:
            rank.kill()
    return code


def end_with_this_stage() -> None:
    """A signal to this stage alone must not leave the ranks behind."""
    set_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def main() -> int:
    if "RANK" not in os.environ:
        stage = Stage.of_arguments()
        stage.say("gpus ...")
        return launch(sys.argv[1:])
    end_with_this_stage()
    stage = Stage.of_arguments()
    if stage.settings.cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if stage.settings.cuda else "gloo")
    try:
        host: torch.Tensor | None = None
        for kind in ("DDP", "FSDP2"):  # the first one has the larger state
            rank = Rank(stage, kind, host)
            rank.run()
            host = rank.host
            del rank
            gc.collect()
            if stage.settings.cuda:
                torch.cuda.empty_cache()
    finally:
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
