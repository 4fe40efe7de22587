"""The stage of compute-sanitizer: a tiny training with snapshots, device digests and a restore under
its memory checker.

Started with "inside" it is that training.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

import holdfast
from report import Row

from device import Device
from model import Batch, Training
from reference import Reference, verdict
from settings import TINY, Skipped, Stage

STEPS = 6


def inside(stage: Stage) -> None:
    device = Device(stage.settings.device)
    training = Training(TINY, device)
    training.batch = Batch(2, TINY.length)
    training.iterate()

    def checkpointer() -> holdfast.Checkpointer:
        return holdfast.Checkpointer(
            "sanitize", model=training.model, optimizer=training.optimizer, verify_every=1
        )

    first = checkpointer()
    first.restore()
    reference = Reference(device, device.host_buffer(Reference.size(training.state())))
    for step in range(1, STEPS + 1):
        training.iterate()
        first.prepare(60)
        reference.take(training.state(), step)
        if not first.snapshot(step):
            raise RuntimeError("a snapshot was skipped")
    training.iterate()
    first.wait(STEPS)
    torn = first.stats.torn
    first.close(drain=False)
    training.destroy()
    second = checkpointer()
    found = second.restore()
    device.sync()
    wrong = reference.differences(training.state())
    second.close(drain=False)
    print(f"step {found}, {torn} torn, {verdict(wrong)}", flush=True)
    if found != STEPS or torn or wrong:
        raise SystemExit(3)


def sanitize(stage: Stage) -> None:
    if not stage.settings.cuda:
        inside(stage)  # that it runs is seen without a GPU too
        raise Skipped("there is nothing for compute-sanitizer without a GPU")
    found = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not pathlib.Path(found).exists():
        raise Skipped("compute-sanitizer is not on this machine")
    result = subprocess.run(
        [found, "--tool", "memcheck", "--target-processes", "application-only",
         sys.executable, __file__, sys.argv[1], "inside"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=max(5.0, stage.left() - 3),
    )  # fmt: skip
    log = pathlib.Path(stage.settings.out) / "sanitizer.txt"
    log.write_text(result.stdout[-1_000_000:])
    summary = re.findall(r"ERROR SUMMARY: (\d+) error", result.stdout)
    errors = int(summary[-1]) if summary else -1
    tail = result.stdout.strip().splitlines()[-1:] or [""]
    stage.add(Row("compute-sanitizer memcheck", "errors", float(errors), reach="<= 0",
                  ok=errors == 0 and result.returncode == 0,
                  note=f"exit code {result.returncode}; {tail[0][:160]}"))  # fmt: skip


def main() -> None:
    stage = Stage.of_arguments()
    if sys.argv[2:] == ["inside"]:
        inside(stage)
    else:
        stage.run({"sanitize": lambda: sanitize(stage)})


if __name__ == "__main__":
    main()
