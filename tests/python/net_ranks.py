"""A rank that outlives the others of its start, for test_netns_restart.py: its steps have no
collective, so it trains on by itself, and finds out that it is fenced."""

from __future__ import annotations

import os
import pathlib
import time

import torch

import holdfast
from node_ranks import Training

_PAUSE = 0.05
PERSIST_EVERY = 10


class Alone(Training):
    """The process group serves the start of the job alone."""

    def step(self) -> None:
        self.optimizer.zero_grad()
        rows = torch.randn(4, next(self.plain.parameters()).shape[1])
        self.plain(rows + self.cursor.position).square().mean().backward()
        self.optimizer.step()
        self.cursor.position += 1


def alone(rank: int, world: int, store: str, folder: str, root: str) -> None:
    """Trains until it is killed or fenced: then "folder"/fenced.RANK has the reason.  Else as
    node_ranks.go_on."""
    place = pathlib.Path(folder)
    training = Alone(rank, world, store, 1)
    checkpointer = holdfast.Checkpointer(
        "pair", model=training.plain, optimizer=training.optimizer, extra=training.cursor,
        persist=root, persist_every=PERSIST_EVERY, keep_last=2,
    )
    step = checkpointer.restore(timeout=60)
    with open(place / f"restored.{rank}", "a") as restored:
        restored.write(f"{step} {training.digest()}\n")
    with open(place / f"digests.{rank}", "a", buffering=1) as digests:
        digests.write(f"{step} {training.digest()}\n")
        while True:
            step += 1
            training.step()
            digests.write(f"{step} {training.digest()}\n")
            try:
                checkpointer.snapshot(step)
            except holdfast.FencedError as error:
                (place / f"fenced.{rank}").write_text(str(error))
                os._exit(0)  # no word to the others of its process group
            time.sleep(_PAUSE)
