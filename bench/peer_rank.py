"""A rank of a job over several nodes, for peer_works.py.

    peer_rank.py <rank> <world> <store> <bytes>         $HOLDFAST_SOCKET names its node's daemon
    peer_rank.py <rank> <world> <store> <small|medium>
    snapshot <step>      takes one of its <bytes>, and waits until it is sealed
    restore <step>       waits until that step is loaded
    plain <steps> | holdfast <steps>
        iterations of the example under DistributedDataParallel, the latter with a snapshot after each;
        answers: seconds of one, the last step begun, snapshots that were skipped
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")

import iteration
import torch
import torch.distributed as dist
from serve import Command, serve

import holdfast

TENSOR = 4 << 20  # values of one tensor: 16 MiB


class Blob(torch.nn.Module):
    """So many bytes, other ones on each rank."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        torch.manual_seed(rank)
        counts = [TENSOR] * (size // 4 // TENSOR) + [size // 4 % TENSOR]
        self.parts = torch.nn.ParameterList(
            torch.nn.Parameter(torch.rand(count)) for count in counts if count
        )


def of_bytes(rank: int, size: int) -> dict[str, Command]:
    blob = Blob(rank, size)
    # Without a state of its own.
    optimizer = torch.optim.SGD(blob.parameters(), lr=0.1)
    checkpointer = holdfast.Checkpointer("peers", model=blob, optimizer=optimizer)

    def snapshot(step: int) -> Sequence[float]:
        dist.barrier()
        begun = checkpointer.snapshot(step)
        if not begun:
            raise RuntimeError(f"step {step} was skipped: {begun.reason}")
        checkpointer.fence()
        checkpointer.wait(step)
        return ()

    def restore(step: int) -> Sequence[float]:
        loaded = checkpointer.restore()
        if loaded != step:
            raise RuntimeError(f"step {loaded} came back, not {step}")
        checkpointer.prepare()
        return ()

    return {"snapshot": snapshot, "restore": restore}


def of_example(size: str) -> dict[str, Command]:
    training = iteration.Training(size)
    training.model = cast(Any, torch.nn.parallel.DistributedDataParallel(training.model))
    training.iterate()  # the optimizer's state appears
    checkpointer = holdfast.Checkpointer(
        "peers",
        model=training.model,
        optimizer=training.optimizer,
        extra={"scheduler": training.scheduler, "batches": training.batches},
    )
    checkpointer.restore()
    checkpointer.prepare()

    def iterate(steps: int, with_snapshots: bool) -> Sequence[float]:
        skipped, last = 0, -1
        dist.barrier()
        began = time.perf_counter()
        for _ in range(steps):
            training.iterate()
            if with_snapshots and checkpointer.snapshot(training.step):
                last = training.step
            else:
                skipped += with_snapshots
        if last >= 0:
            checkpointer.fence()
            checkpointer.wait(last)
        return (time.perf_counter() - began) / steps, last, skipped

    return {
        "plain": lambda steps: iterate(steps, False),
        "holdfast": lambda steps: iterate(steps, True),
    }


def main() -> None:
    rank, world, store, what = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    serve(of_bytes(rank, int(what)) if what.isdigit() else of_example(what))
    # A rank that leaves says nothing more: the bench kills nodes, and with them what they would answer.
    os._exit(0)


if __name__ == "__main__":
    main()
