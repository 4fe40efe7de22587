"""The stage of kills: trainers die in mid-copy, one after the other, and each next one must get the
right bytes back."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
from typing import Any

from settings import Stage, counted

HERE = pathlib.Path(__file__).resolve().parent
KINDS = ("copying", "queued")


def one(stage: Stage, record: pathlib.Path, kind: str) -> dict[str, Any]:
    """What a trainer says that it was started with."""
    log = pathlib.Path(stage.settings.scratch) / "killed.log"
    output = pathlib.Path(stage.settings.scratch) / "killed.out"
    with open(log, "ab") as errors, open(output, "wb") as told:  # no pipes: a worker holds them
        result = subprocess.run(
            [sys.executable, str(HERE / "killed.py"), sys.argv[1], str(record), kind],
            stdout=told, stderr=errors, timeout=max(5.0, stage.left() - 2),
        )  # fmt: skip
    expected = 0 if kind == "last" else -signal.SIGKILL
    if result.returncode != expected:
        tail = log.read_text(errors="replace")[-600:]
        raise RuntimeError(f"a trainer ended with {result.returncode}: {tail}")
    found = json.loads(output.read_text().splitlines()[0])
    assert isinstance(found, dict)
    stage.say(f"  {kind}: began with step {found['step']}, right: {found['right']}")
    return found


def kill(stage: Stage) -> None:
    record = pathlib.Path(stage.settings.scratch) / "digests.json"
    kinds = [KINDS[i % 2] for i in range(stage.sizes.kills)]
    right = dict.fromkeys(KINDS, 0)
    cut: list[str] = []  # the newest snapshot was not there, so the kill came before its end
    for before, kind in zip([None, *kinds], [*kinds, "last"]):
        found = one(stage, record, kind)
        if before is not None:
            right[before] += bool(found["right"]) and found["step"] > 0
            if found["step"] < found["newest"]:
                cut.append(before)
    for kind, what in zip(KINDS, ("in mid-copy", "with copies queued, a forked worker alive")):
        stage.add(counted(f"killed {what}: right bytes again", right[kind], kinds.count(kind),
                          f"{cut.count(kind)} of {kinds.count(kind)} before the end of the copy"))  # fmt: skip


def main() -> None:
    stage = Stage.of_arguments()
    stage.run({"kill": lambda: kill(stage)})


if __name__ == "__main__":
    main()
