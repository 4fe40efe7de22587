"""A trainer that is killed in mid-copy by itself, after it has checked what it was started with.

    killed.py SETTINGS RECORD KIND

RECORD: a JSON file with the digest of each step's state, written before its snapshot begins.
KIND: "copying", "queued" (copies wait behind a long kernel, and a forked worker lives on), or "last"
(only the check).
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import signal
import sys
import time
from typing import Any

import holdfast
import torch

import simulated
from device import Device
from reference import raw
from settings import Stage
from torn import Pile, Slowly

_cuda: Any = torch.cuda
WHOLE = 3  # sealed snapshots before the one that is killed
SLEEP_CYCLES = 4_000_000_000  # about two seconds
LANDING_MS = 2000


class Trainer:
    def __init__(self, stage: Stage, record: pathlib.Path) -> None:
        self.device = Device(stage.settings.device)
        sizes = stage.sizes
        torch.manual_seed(1)
        self.model = Pile(sizes.kill_tensors, sizes.torn_elements, self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, fused=True)
        self.optimizer.step()
        self.checkpointer = holdfast.Checkpointer(
            "killed", model=self.model, optimizer=self.optimizer, verify_every=1
        )
        self.record = record
        self.known = json.loads(record.read_text()) if record.exists() else {}
        self.slowly = Slowly(stage)

    def digest(self) -> str:
        """SHA-256 over sums of the words and over samples of every tensor: quick, and any other
        step has another one."""
        self.device.sync()
        total = hashlib.sha256()
        states = [t for s in self.optimizer.state.values() for t in s.values()]
        for tensor in [*self.model.parameters(), *states]:
            words = raw(tensor).view(torch.int32).to(torch.int64)
            places = torch.arange(1, words.numel() + 1, device=words.device)
            total.update(str([int(words.sum()), int((words * places).sum())]).encode())
        return total.hexdigest()

    def note(self, step: int) -> None:
        self.known[str(step)] = self.digest()
        self.record.write_text(json.dumps(self.known))

    def check(self) -> int:
        """Prints what it was started with."""
        began = time.monotonic()
        step = self.checkpointer.restore()
        took = time.monotonic() - began
        right = step == 0 or self.known.get(str(step)) == self.digest()
        newest = max(map(int, self.known), default=0)
        print(json.dumps({"step": step, "right": right, "newest": newest, "seconds": took}),
              flush=True)  # fmt: skip
        return step

    def train(self, step: int, kind: str) -> None:
        for step in range(step + 1, step + WHOLE + 1):
            self.optimizer.step()
            self.note(step)
            self.checkpointer.prepare(60)
            assert self.checkpointer.snapshot(step)
            self.checkpointer.wait(step)
        self.optimizer.step()
        self.note(step + 1)
        self.checkpointer.prepare(60)
        with self.slowly.copies():
            self._die(step + 1, kind)

    def _die(self, step: int, kind: str) -> None:
        if kind == "queued":
            if self.device.cuda:
                _cuda._sleep(SLEEP_CYCLES)
            if os.fork() == 0:
                time.sleep(30)  # a worker; run.py ends it with everything of this stage
                os._exit(0)
        assert self.checkpointer.snapshot(step)
        if self.device.simulated and kind == "queued":
            simulated.die(LANDING_MS)
        if self.device.cuda and kind == "queued":
            self.checkpointer.fence()  # every copy is issued
        elif self.device.cuda:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    stage = Stage.of_arguments()
    record, kind = pathlib.Path(sys.argv[2]), sys.argv[3]
    trainer = Trainer(stage, record)
    step = trainer.check()
    if kind == "last":
        trainer.checkpointer.close(drain=False)
    else:
        trainer.train(step, kind)


if __name__ == "__main__":
    main()
