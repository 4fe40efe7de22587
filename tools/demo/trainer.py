"""Runs examples/train_gpt.py unchanged, with what the demo wants to happen in it.

$HOLDFAST_DEMO_PLAN is a JSON object:
  folder      where marks are made
  failpoints  {"rank", "restart", "arm"}: armed in that rank, at that start by torchrun only
  pauses      [step]: each rank stops after the snapshot of that step is sealed, creates
              folder/paused-<step>-<rank> and goes on when folder/go-<step> exists
  sure        [step]: snapshots that are not skipped
Each rank keeps the newest step that it was told to be sealed in folder/sealed-<rank>.
"""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "client" / "python"))

import holdfast  # noqa: E402

PAUSE_SECONDS = 120.0


class Watched:
    """Checkpointer.snapshot as the demo's plan has it."""

    def __init__(self, plan: dict[str, Any], rank: int) -> None:
        self._pauses = set(plan.get("pauses", ()))
        self._sure = self._pauses | set(plan.get("sure", ()))
        self._folder = pathlib.Path(plan["folder"])
        self._rank = rank
        self._snapshot = holdfast.Checkpointer.snapshot

    def __call__(self, checkpointer: holdfast.Checkpointer, step: int) -> holdfast.SnapshotResult:
        if step in self._sure:
            checkpointer.prepare()  # a free slot is there
        result = self._snapshot(checkpointer, step)
        if step in self._sure and not result:
            raise RuntimeError(f"the snapshot of step {step} was skipped: {result.reason}")
        if step in self._pauses:
            checkpointer.wait(step)
        self._tell(checkpointer.stats.last_sealed_step)
        if step in self._pauses:
            self._pause(step)
        return result

    def _tell(self, sealed: int) -> None:
        part = self._folder / f"sealed-{self._rank}.part"
        part.write_text(str(sealed))
        part.rename(self._folder / f"sealed-{self._rank}")

    def _pause(self, step: int) -> None:
        (self._folder / f"paused-{step}-{self._rank}").touch()
        deadline = time.monotonic() + PAUSE_SECONDS
        while not (self._folder / f"go-{step}").exists():
            if time.monotonic() > deadline:
                raise RuntimeError("nobody said go")
            time.sleep(0.005)


def main() -> None:
    plan: dict[str, Any] = json.loads(os.environ.get("HOLDFAST_DEMO_PLAN", "{}"))
    rank = int(os.environ.get("RANK", "0"))
    restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    fault = plan.get("failpoints")
    if fault and (fault["rank"], fault["restart"]) == (rank, restart):
        holdfast.arm_failpoints(fault["arm"])
    if "folder" in plan:
        watched = Watched(plan, rank)
        setattr(holdfast.Checkpointer, "snapshot", lambda self, step: watched(self, step))
    sys.argv[0] = str(ROOT / "examples" / "train_gpt.py")
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
