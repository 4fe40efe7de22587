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
#: With the optimizer's state some MiB: each node of a group has something to encode.
_WIDTH = 512


class Training:
    """The state of one rank, in the job's process group; frozen: half of its model is."""

    def __init__(self, rank: int, world: int, store: str, seed: int, frozen: bool = False) -> None:
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo", store=dist.FileStore(store, world), rank=rank, world_size=world,
            timeout=datetime.timedelta(seconds=90),
        )
        seed_all(seed + rank)
        self.plain = torch.nn.Sequential(
            torch.nn.Linear(_WIDTH, _WIDTH), torch.nn.Linear(_WIDTH, _WIDTH)
        )
        self.plain[0].requires_grad_(not frozen)
        # Or DDP adds in another order after its first step (examples/train_gpt.py).
        self.model = torch.nn.parallel.DistributedDataParallel(
            self.plain, find_unused_parameters=True
        )
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=0.01)
        self.cursor = Cursor()

    def checkpointer(self) -> holdfast.Checkpointer:
        return holdfast.Checkpointer(
            "pair", model=self.model, optimizer=self.optimizer, extra=self.cursor
        )

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(4, _WIDTH) + self.cursor.position).square().mean().backward()
        self.optimizer.step()
        self.cursor.position += 1

    def digest(self) -> str:
        return digest([dict(self.plain.state_dict()), self.optimizer.state_dict(),
                       self.cursor.state_dict(), torch.get_rng_state()])


def main(
    rank: int, world: int, store: str, gate: int, seed: int, end: str, frozen: bool = False
) -> None:
    """Trains to the gate, through it, and on until a snapshot from behind it is complete; then
    ends as "end" says: "die", or "close"."""
    training = Training(rank, world, store, seed, frozen)
    checkpointer = training.checkpointer()
    start = checkpointer.restore(timeout=60)
    print("restored", start, flush=True)
    digests: dict[int, str] = {}
    step = start
    opened = 0.0
    while True:
        step += 1
        training.step()
        digests[step] = training.digest()
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


def go_on(
    rank: int, world: int, store: str, folder: str, timeout: float, frozen: bool = False
) -> None:
    """Restores, and trains until it is killed or "folder"/stop exists.

    "folder"/digests.RANK gets a line "STEP DIGEST" before each snapshot, "folder"/restored.RANK one
    after each restore: what chaos.py compares.
    """
    place = pathlib.Path(folder)
    training = Training(rank, world, store, 1, frozen)
    checkpointer = training.checkpointer()
    step = checkpointer.restore(timeout=timeout)
    with open(place / f"restored.{rank}", "a") as restored:
        restored.write(f"{step} {training.digest()}\n")
    with open(place / f"digests.{rank}", "a", buffering=1) as digests:
        digests.write(f"{step} {training.digest()}\n")
        while True:
            step += 1
            training.step()
            digests.write(f"{step} {training.digest()}\n")
            checkpointer.snapshot(step)
            time.sleep(_PAUSE)
            over = torch.tensor([int((place / "stop").exists())])
            dist.all_reduce(over)
            if over.item():
                break
    checkpointer.close()
    dist.destroy_process_group()


def show(rank: int, world: int, store: str, seed: int, frozen: bool = False) -> None:
    """Restores, and says what it has."""
    training = Training(rank, world, store, seed, frozen)
    with training.checkpointer() as mine:
        step = mine.restore(timeout=60)
        print("digest", step, training.digest(), flush=True)
    dist.destroy_process_group()
