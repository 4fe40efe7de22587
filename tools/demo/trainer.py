"""Runs examples/train_gpt.py unchanged, with what the demo wants to happen in it.

$HOLDFAST_DEMO_PLAN is a JSON object:
  failpoints: {"rank", "restart", "arm"}   armed in that rank, at that start by torchrun only
  pause: {"step", "folder"}   each rank stops after the snapshot of that step is sealed, creates
                              folder/paused-<rank> and goes on when folder/go exists
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


def pause_after(step: int, folder: pathlib.Path, rank: int) -> None:
    """Wraps Checkpointer.snapshot so that this process waits once after one step."""
    snapshot = holdfast.Checkpointer.snapshot

    def snapshot_and_pause(self: "holdfast.Checkpointer", now: int) -> "holdfast.SnapshotResult":
        if now != step:
            return snapshot(self, now)
        self.prepare()  # a free slot is there: this snapshot is not skipped
        result = snapshot(self, now)
        if not result:
            raise RuntimeError(f"the snapshot of step {now} was skipped: {result.reason}")
        self.wait(now)
        (folder / f"paused-{rank}").touch()
        deadline = time.monotonic() + PAUSE_SECONDS
        while not (folder / "go").exists():
            if time.monotonic() > deadline:
                raise RuntimeError("nobody said go")
            time.sleep(0.005)
        return result

    setattr(holdfast.Checkpointer, "snapshot", snapshot_and_pause)


def main() -> None:
    plan: dict[str, Any] = json.loads(os.environ.get("HOLDFAST_DEMO_PLAN", "{}"))
    rank = int(os.environ.get("RANK", "0"))
    restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    fault = plan.get("failpoints")
    if fault and (fault["rank"], fault["restart"]) == (rank, restart):
        holdfast.arm_failpoints(fault["arm"])
    if "pause" in plan:
        pause_after(plan["pause"]["step"], pathlib.Path(plan["pause"]["folder"]), rank)
    sys.argv[0] = str(ROOT / "examples" / "train_gpt.py")
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
