"""A real daemon, and trainers that are killed or forked."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import torch

import holdfast
from node import Node
from support import Training

HERE = pathlib.Path(__file__).resolve().parent


def make(training: Any, **options: Any) -> holdfast.Checkpointer:
    extra = getattr(training, "extra", None)
    return holdfast.Checkpointer(
        "job", model=training.model, optimizer=training.optimizer, extra=extra, **options
    )


def take(checkpointer: holdfast.Checkpointer, step: int) -> None:
    """A snapshot that is not skipped, sealed when this returns."""
    checkpointer.prepare()
    result = checkpointer.snapshot(step)
    assert result, result.reason
    checkpointer.wait(step)


def test_a_killed_trainer_comes_back_from_the_arena(node: Node) -> None:
    program = (
        "import os, signal, sys\n"
        "from support import Training\n"
        "import holdfast\n"
        "t = Training()\n"
        "c = holdfast.Checkpointer('job', model=t.model, optimizer=t.optimizer, extra=t.extra)\n"
        "c.restore()\n"
        "for step in range(1, 6):\n"
        "    t.step(); c.prepare(); assert c.snapshot(step); c.wait(step)\n"
        "print(t.digest(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(HERE.parents[1] / "client/python"), str(HERE)])
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    training = Training(seed=7)
    with make(training) as checkpointer:
        assert checkpointer.restore() == 5
        assert training.digest() == result.stdout.strip()


def test_a_forked_data_loader_worker_disturbs_nothing(node: Node) -> None:
    data = torch.utils.data.TensorDataset(torch.randn(64, 8))
    loader = torch.utils.data.DataLoader(
        data, batch_size=8, num_workers=2, multiprocessing_context="fork"
    )
    training = Training()
    with make(training) as checkpointer:
        checkpointer.restore()
        step = 0
        for _ in range(2):  # workers start and end while copies are under way
            for _batch in loader:
                step += 1
                training.step()
                checkpointer.snapshot(step)
        take(checkpointer, step + 1)
        stats = checkpointer.stats
        assert stats.torn == 0 and stats.failed == 0 and stats.connected
        expected = training.digest()
    other = Training(seed=2)
    with make(other) as again:
        assert again.restore() == step + 1
        assert other.digest() == expected


def test_a_fork_may_not_use_its_parents_checkpointer(node: Node) -> None:
    with make(Training()) as checkpointer:
        checkpointer.restore()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                checkpointer.snapshot(1)
            except holdfast.ForkedError:
                os.write(writer, b"refused")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 7) == b"refused"
        take(checkpointer, 1)
