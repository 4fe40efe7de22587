"""An iteration of examples/train_gpt.py, without snapshots and with one after every step, ours and
the usual ones.

    iteration.py <size> <folder>      $HOLDFAST_SOCKET names the daemon; peers write to the folder
    plain | holdfast | torch_save | dcp_save | dcp_async <steps>
        answers: seconds of one iteration, snapshots that were skipped

What is still under way after the last step (a copy, a seal, an asynchronous save) is waited for and
counted.  All ways take turns in this one process, on the same model, optimizer and data.
"""

from __future__ import annotations

import logging
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.distributed as dist
from serve import serve
from torch.distributed.checkpoint.state_dict_saver import async_save, save

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "examples"))

import holdfast  # noqa: E402
import train_gpt  # noqa: E402

BATCH = 4  # the example's default
SEED = 1


class Training:
    """The example's objects and one iteration of its loop."""

    def __init__(self, size: str) -> None:
        shape = train_gpt.SIZES[size]
        torch.manual_seed(SEED)
        self.model = train_gpt.GPT(shape)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3, weight_decay=0.1)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, 3e-3, total_steps=1_000_000
        )
        self.batches = train_gpt.Batches(
            train_gpt.standard_library(), shape.block, BATCH, SEED, 0, 1
        )
        self.step = 0

    def iterate(self) -> None:
        self.step += 1
        x, y = self.batches.next()
        loss = self.model(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()

    def state(self) -> dict[str, Any]:
        """What the example hands to Holdfast, for the others."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "batches": self.batches.state_dict(),
            "rng": torch.get_rng_state(),
        }


class Ways:
    """One function for each way to save: after_step(), and end() of a row of steps."""

    def __init__(self, training: Training, folder: pathlib.Path) -> None:
        self.training = training
        self.folder = folder
        self.pending: Any = None
        self.skipped = 0
        self.checkpointer = holdfast.Checkpointer(
            "iteration",
            model=training.model,
            optimizer=training.optimizer,
            extra={"scheduler": training.scheduler, "batches": training.batches},
        )
        self.checkpointer.restore()

    def nothing(self) -> None:
        pass

    def snapshot(self) -> None:
        if not self.checkpointer.snapshot(self.training.step):
            self.skipped += 1

    def sealed(self) -> None:
        self.checkpointer.fence()
        newest = self.checkpointer.stats.last_begun_step
        if newest >= 0:
            self.checkpointer.wait(newest)

    def torch_save(self) -> None:
        torch.save(self.training.state(), self.folder / "torch_save.pt")

    def dcp_save(self) -> None:
        save(self.training.state(), checkpoint_id=self.folder / "dcp_save")

    def dcp_async(self) -> None:
        self.arrived()
        self.pending = async_save(
            self.training.state(), checkpoint_id=self.folder / "dcp_async"
        )

    def arrived(self) -> None:
        if self.pending is not None:
            self.pending.result()
            self.pending = None


def main() -> None:
    size, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'rendezvous'}", rank=0, world_size=1
    )
    training = Training(size)
    training.iterate()  # the optimizer's state appears
    ways = Ways(training, folder)
    ways.checkpointer.prepare()

    def way(after_step: Callable[[], None], end: Callable[[], None]) -> Callable[..., Sequence[float]]:
        def run(steps: int) -> Sequence[float]:
            ways.skipped = 0
            ways.checkpointer.prepare()
            began = time.perf_counter()
            for _ in range(steps):
                training.iterate()
                after_step()
            end()
            return (time.perf_counter() - began) / steps, ways.skipped

        return run

    try:
        serve(
            {
                "plain": way(ways.nothing, ways.nothing),
                "holdfast": way(ways.snapshot, ways.sealed),
                "torch_save": way(ways.torch_save, ways.nothing),
                "dcp_save": way(ways.dcp_save, ways.nothing),
                "dcp_async": way(ways.dcp_async, ways.arrived),
            }
        )
    finally:
        ways.arrived()
        ways.checkpointer.close(drain=False)
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
