"""What snapshot() costs the training thread: a model with its Adam, through the Python face.

    snapshot_time.py <bytes> <tensors>      $HOLDFAST_SOCKET names the daemon
    snapshot    answers: seconds in Checkpointer.snapshot(), seconds of it below the C ABI,
                seconds that the copy behind it took, processor seconds of the calling thread
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch
from serve import serve

import holdfast


def make(size: int, count: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Four tensors for each parameter: weight, step, exp_avg, exp_avg_sq."""
    parameters = count // 4
    elements = size // 3 // parameters // 4
    model = torch.nn.Module()
    for i in range(parameters):
        model.register_parameter(f"weight_{i}", torch.nn.Parameter(torch.rand(elements)))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def main() -> None:
    size, count = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    model, optimizer = make(size, count)
    checkpointer = holdfast.Checkpointer(
        "snapshot-time", model=model, optimizer=optimizer, slots=2
    )
    checkpointer.restore()
    checkpointer.prepare()
    step = 0

    def snapshot() -> Sequence[float]:
        nonlocal step
        step += 1
        checkpointer.prepare()  # a free slot is there
        busy_before, began = time.thread_time(), time.perf_counter()
        result = checkpointer.snapshot(step)
        seconds, busy = time.perf_counter() - began, time.thread_time() - busy_before
        if not result:
            raise RuntimeError(f"skipped: {result.reason}")
        checkpointer.fence()
        checkpointer.wait(step)
        stats = checkpointer.stats
        return seconds, stats.last_snapshot_ns / 1e9, stats.last_copy_ns / 1e9, busy

    try:
        serve({"snapshot": snapshot})
    finally:
        checkpointer.close(drain=False)


if __name__ == "__main__":
    main()
