"""A daemon that is away, hung or full while training runs: training goes on, snapshots come back.

Promise L of docs/invariants.md, from the training's side.
"""

from __future__ import annotations

import os
import pathlib
import signal
import time

import pytest
import torch

import holdfast
from node import Node, wait_for
from support import Training, make, take


def lose(node: Node, checkpointer: holdfast.Checkpointer) -> None:
    """kill -9 of the daemon, and the client has seen it."""
    node.kill()
    wait_for("the loss to be seen", lambda: None if checkpointer.stats.connected else True)


def quick_skip(checkpointer: holdfast.Checkpointer, step: int) -> None:
    began = time.monotonic()
    result = checkpointer.snapshot(step)
    assert result.skipped and "away" in result.reason
    assert time.monotonic() - began < 1.0, "the training was held up"


def test_a_daemon_that_dies_before_the_first_snapshot_stops_no_training(node: Node) -> None:
    training = Training()
    with make(training) as checkpointer:
        lose(node, checkpointer)
        for step in range(1, 4):
            training.step()
            quick_skip(checkpointer, step)
        assert checkpointer.stats.skipped == 3
        with pytest.raises(holdfast.UnavailableError, match="nothing was saved"):
            checkpointer.drain()
        node.start()
        wait_for("the connection", lambda: checkpointer.stats.connected or None)
        training.step()
        take(checkpointer, 4)


def test_a_daemon_that_dies_before_the_optimizer_has_state_stops_no_training(node: Node) -> None:
    """The layout changes at the first step, and nobody is there to take the new one."""
    training = Training()
    with make(training) as checkpointer:
        checkpointer.restore()
        take(checkpointer, 0)
        lose(node, checkpointer)
        for step in range(1, 4):
            training.step()
            quick_skip(checkpointer, step)
        node.start()
        wait_for("the connection", lambda: checkpointer.stats.connected or None)
        wait_for("a snapshot", lambda: checkpointer.snapshot(next_step(checkpointer)) or None)
        expected = training.digest()
    other = Training(seed=2)
    with make(other) as again:
        assert again.restore() > 3
        assert other.digest() == expected


def next_step(checkpointer: holdfast.Checkpointer) -> int:
    """A step above all that were begun or skipped."""
    stats = checkpointer.stats
    return 100 + stats.skipped + stats.begun


def test_a_hung_daemon_holds_a_snapshot_up_for_a_moment_only(node: Node) -> None:
    training = Training()
    with make(training) as checkpointer:
        os.kill(node.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for step in range(1, 11):
                training.step()
                assert checkpointer.snapshot(step).skipped
            assert time.monotonic() - began < 2.0
        finally:
            os.kill(node.pid, signal.SIGCONT)
        training.step()
        take(checkpointer, 11)


def test_a_daemon_that_has_lost_its_records_is_told_with_what_to_do(
    node: Node, tmp_path: pathlib.Path
) -> None:
    """What operations.md says of a damaged catalog, done under a training that goes on: the daemon
    runs, so that to start it cannot help."""
    training = Training()
    checkpointer = make(training)
    try:
        take(checkpointer, 0)
        lose(node, checkpointer)
        (node.state / "catalog").rename(tmp_path / "away")
        node.start(flags=("--discard-arena",))

        def refused() -> str | None:
            reason = checkpointer.snapshot(next_step(checkpointer)).reason
            return reason if "start the training again" in reason else None

        reason = wait_for("the daemon's refusal", refused)
        assert reason.startswith("holdfastd is away: job "), reason
        training.model.register_buffer("more", torch.zeros(3))  # and so for a layout that is new
        assert checkpointer.snapshot(next_step(checkpointer)).reason == reason
    finally:
        checkpointer.close(drain=False)
    with make(Training(seed=2)) as again:
        assert again.restore() == 0
        take(again, 1)


def test_a_layout_that_grows_beyond_the_budget_stops_no_training(node: Node) -> None:
    training = Training()
    with make(training) as checkpointer:
        checkpointer.restore()
        take(checkpointer, 0)
        training.model.register_buffer("large", torch.zeros(400 << 20, dtype=torch.uint8))
        for step in range(1, 4):
            result = checkpointer.snapshot(step)
            assert result.skipped and "MiB" in result.reason, result.reason
        del training.model.large
        take(checkpointer, 4)
        assert checkpointer.stats.skipped == 3
    first = Training()
    first.model.register_buffer("large", torch.zeros(400 << 20, dtype=torch.uint8))
    checkpointer = make(first, slots=4)
    with pytest.raises(holdfast.NoSpaceError):
        checkpointer.snapshot(5)
    checkpointer.close(drain=False)
