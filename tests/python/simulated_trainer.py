"""A trainer whose state counts as on a GPU: the library is on the simulated CUDA runtime.

MODE, and what it prints as JSON:
"gather" BYTES      why there is no snapshot that may gather so much; empty: there is one
"staging" PERCENT   how often the runtime was asked for free memory, as staging needs it
"save"              nothing; leaves a snapshot
"pageable"          the note, the warnings, and the rate of copies, where no buffer of a snapshot can be pinned
"unpinned"          the step that a restore gave back whose memory cannot be pinned, the note, and warnings
"""

from __future__ import annotations

import json
import logging
import sys
import threading

import torch
from torch import nn

import holdfast
import simulated

HELD_SECONDS = 0.02
WAITS = 4
# Three windows of copies, of which two are on their way when the fence comes.
STAGED_ELEMENTS = 45 << 20
BUFFERS = 6  # two for each of three snapshots that may be under way
CUDA_ERROR_MEMORY_ALLOCATION = 2


class One(nn.Module):
    def __init__(self, elements: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(elements))
        self.register_buffer("seen", torch.zeros(1000))


def gather(limit: int) -> None:
    checkpointer = holdfast.Checkpointer("job", model=One(100_000), gather_bytes=limit)
    checkpointer.restore()
    why = ""
    try:
        checkpointer.snapshot(1)
    except holdfast.NoSpaceError as error:
        why = str(error)
    checkpointer.close(drain=False)
    print(json.dumps(why))


def staging(percent: int) -> None:
    """Each update comes while the copies stand still, so the device waits."""
    model = One(STAGED_ELEMENTS)
    checkpointer = holdfast.Checkpointer("job", model=model, staging_percent=percent, slots=2)
    checkpointer.restore()
    for step in range(1, WAITS + 1):
        checkpointer.prepare(60)
        simulated.hold_copies(True)
        assert checkpointer.snapshot(step)
        threading.Timer(HELD_SECONDS, simulated.hold_copies, [False]).start()
        checkpointer.fence()
        with torch.no_grad():
            model.weight[0] += 1
        checkpointer.wait(step)
    stats = checkpointer.stats
    checkpointer.close(drain=False)
    assert (stats.torn, stats.failed) == (0, 0), stats
    print(json.dumps(simulated.library().hf_sim_calls(b"cudaMemGetInfo")))


def save() -> None:
    checkpointer = holdfast.Checkpointer("job", model=One(1_000_000))
    checkpointer.restore()
    checkpointer.prepare(60)
    assert checkpointer.snapshot(7)
    checkpointer.wait(7)
    checkpointer.close(drain=False)


def warnings_to_come() -> list[str]:
    warnings: list[str] = []
    handler = logging.Handler()
    setattr(handler, "emit", lambda record: warnings.append(record.getMessage()))
    logging.getLogger("holdfast").addHandler(handler)
    return warnings


def pageable() -> None:
    warnings = warnings_to_come()
    for _ in range(BUFFERS):
        simulated.library().hf_sim_fail(b"cudaHostAlloc", 1, CUDA_ERROR_MEMORY_ALLOCATION)
    checkpointer = holdfast.Checkpointer("job", model=One(1_000_000))
    checkpointer.restore()
    for step in (1, 2):
        checkpointer.prepare(60)
        assert checkpointer.snapshot(step)
        checkpointer.wait(step)
        checkpointer.fence()
    stats = checkpointer.stats
    checkpointer.close(drain=False)
    assert (stats.torn, stats.failed) == (0, 0), stats
    print(json.dumps([stats.note, warnings, stats.unpinned_bytes_per_second]))


def unpinned() -> None:
    warnings = warnings_to_come()
    model = One(1_000_000)
    with torch.no_grad():
        model.weight.zero_()
    for call in range(1, 9):
        simulated.library().hf_sim_fail(b"cudaHostRegister", call, CUDA_ERROR_MEMORY_ALLOCATION)
    checkpointer = holdfast.Checkpointer("job", model=model)
    step = checkpointer.restore()
    note = checkpointer.stats.note
    checkpointer.close(drain=False)
    print(json.dumps([step, bool((model.weight == 1).all()), note, warnings]))


def main() -> None:
    simulated.use(0)
    mode, *numbers = sys.argv[1:]
    modes = {"gather": gather, "staging": staging, "save": save, "pageable": pageable,
             "unpinned": unpinned}  # fmt: skip
    modes[mode](*map(int, numbers))


if __name__ == "__main__":
    main()
