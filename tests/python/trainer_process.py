"""A trainer that a test kills.

It trains five steps on whatever it restores and prints "digest STEP DIGEST" after each one that is
sealed.  MODE: "arm" FAILPOINTS for the third of them; "fork" PIDFILE starts a worker that keeps
every descriptor and outlives the trainer, which dies in its third copy.
"""

from __future__ import annotations

import os
import pathlib
import signal

import holdfast
from support import Training, make


def fork_worker(pid_file: str) -> None:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for stream in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        signal.pause()
        os._exit(0)
    pathlib.Path(pid_file).write_text(str(pid))


def main(mode: str, argument: str) -> None:
    training = Training(seed=3)
    checkpointer = make(training)
    start = checkpointer.restore()
    for step in range(start + 1, start + 6):
        training.step()
        checkpointer.prepare()
        if step == start + 3 and mode == "fork":
            fork_worker(argument)
            holdfast.arm_failpoints("client.copy.chunk=kill")
        elif step == start + 3:
            print("digest", step, training.digest(), flush=True)
            holdfast.arm_failpoints(argument)
        assert checkpointer.snapshot(step)
        checkpointer.wait(step)
        print("digest", step, training.digest(), flush=True)
