"""One rank of a DDP training over several nodes, for test_nodes.py: it trains on whatever happens to
the daemons, and stops for the test at one step.

Files beside "store": `.at.RANK` says that the rank is at its gate, `.go` opens all gates.
"""

from __future__ import annotations

import datetime
import os
import pathlib
import time

import torch
import torch.distributed as dist

import holdfast
from support import Cursor, digest, seed_all

#: Of the steps behind the gate: long enough that something becomes complete among them.
_LEAST_SECONDS = 1.0
_PAUSE = 0.05


def main(rank: int, world: int, store: str, gate: int, seed: int, end: str) -> None:
    """Trains to the gate, through it, and on until a snapshot from behind it is complete; then
    ends as "end" says: "die", or "close"."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, world), rank=rank, world_size=world,
        timeout=datetime.timedelta(seconds=90),
    )
    seed_all(seed + rank)
    plain = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    model = torch.nn.parallel.DistributedDataParallel(plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    cursor = Cursor()
    checkpointer = holdfast.Checkpointer("pair", model=model, optimizer=optimizer, extra=cursor)
    start = checkpointer.restore(timeout=60)
    print("restored", start, flush=True)
    digests: dict[int, str] = {}
    step = start
    opened = 0.0
    while True:
        step += 1
        optimizer.zero_grad()
        model(torch.randn(4, 8) + cursor.position).square().mean().backward()
        optimizer.step()
        cursor.position += 1
        state = [dict(plain.state_dict()), optimizer.state_dict(), cursor.state_dict(),
                 torch.get_rng_state()]
        digests[step] = digest(state)
        checkpointer.snapshot(step)
        if step == gate:
            pathlib.Path(f"{store}.at.{rank}").touch()
            while not os.path.exists(f"{store}.go"):
                time.sleep(0.01)
            opened = time.monotonic()
        if step > gate:
            time.sleep(_PAUSE)
        complete = checkpointer.stats.last_complete_step
        late = opened > 0 and time.monotonic() > opened + _LEAST_SECONDS
        over = torch.tensor([int(late and complete > gate)])
        dist.all_reduce(over, op=dist.ReduceOp.MIN)
        if over.item():
            break
    for at, text in digests.items():
        print("digest", at, text, flush=True)
    if end == "die":
        dist.barrier()
        os.kill(os.getpid(), 9)
    checkpointer.close()
    dist.destroy_process_group()


def show(rank: int, world: int, store: str, seed: int) -> None:
    """Restores, and says what it has."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, world), rank=rank, world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    seed_all(seed + rank)
    plain = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    model = torch.nn.parallel.DistributedDataParallel(plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    cursor = Cursor()
    with holdfast.Checkpointer("pair", model=model, optimizer=optimizer, extra=cursor) as mine:
        step = mine.restore(timeout=60)
        state = [dict(plain.state_dict()), optimizer.state_dict(), cursor.state_dict(),
                 torch.get_rng_state()]
        print("digest", step, digest(state), flush=True)
    dist.destroy_process_group()
