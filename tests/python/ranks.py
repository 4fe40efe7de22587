"""A two-rank DDP training for test_ranks.py.

The mode is "end", "die" (both, after the last step), "misfit", or what rank 1 does at its restore:
"broken" (an exception of another library), "silent" (never asks), "arm:FAILPOINTS".
"""

from __future__ import annotations

import datetime
import os
import pathlib
import sys
import time

import torch
import torch.distributed as dist

import holdfast
from holdfast._restore import Loader
from support import Cursor, digest, seed_all


def out_of_memory(loader: Loader, restore: object, threads: int) -> None:
    raise MemoryError("as torch raises it")


def main(rank: int, world: int, store: str, steps: int, seed: int, mode: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, world), rank=rank, world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    seed_all(seed + rank)
    width = 9 if mode == "misfit" and rank == 1 else 8
    plain = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.Linear(width, 8))
    if mode == "misfit":
        model: torch.nn.Module = plain  # DDP would refuse ranks that differ
    else:
        model = torch.nn.parallel.DistributedDataParallel(plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    cursor = Cursor()
    checkpointer = holdfast.Checkpointer("pair", model=model, optimizer=optimizer, extra=cursor)
    fault = mode if rank == 1 else ""
    if fault.startswith("arm:"):
        holdfast.arm_failpoints(fault.removeprefix("arm:"))
    if fault == "broken":
        Loader.load = out_of_memory  # type: ignore[method-assign]
    if fault == "silent":
        while not os.path.exists(f"{store}.over"):
            time.sleep(0.01)
        sys.exit(0)
    try:
        start = checkpointer.restore(timeout=60)
    finally:
        pathlib.Path(f"{store}.over").touch()
    print("restored", start, flush=True)
    for step in range(start + 1, steps + 1):
        optimizer.zero_grad()
        model(torch.randn(4, 8) + cursor.position).square().mean().backward()
        optimizer.step()
        cursor.position += 1
        checkpointer.prepare()
        begun = checkpointer.snapshot(step)
        # Where the daemon dies between the two lines above, the next one has the newest.
        assert begun or (mode == "die" and step < steps), begun
        if begun:
            checkpointer.wait(step)
    state = [dict(plain.state_dict()), optimizer.state_dict(), cursor.state_dict(),
             torch.get_rng_state()]
    print("digest", digest(state), flush=True)
    if mode == "die":
        os.kill(os.getpid(), 9)
    checkpointer.close()
    dist.destroy_process_group()
