"""The real library and a real daemon with state on a GPU, on the simulated CUDA runtime."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from node import Node

HERE = pathlib.Path(__file__).resolve().parent
BENCH = HERE.parents[1] / "bench" / "gpu"  # simulated.py


def train(node: Node, library: str, *words: str) -> Any:
    """What the trainer printed first; it also tells, at its end, what it called."""
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(BENCH)])
    environment = {
        **os.environ, **node.environment, "HOLDFAST_LIBRARY": library, "PYTHONPATH": paths
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, str(HERE / "simulated_trainer.py"), *words],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    first = result.stdout.splitlines()[0]
    return json.loads(first) if not first.startswith(" ") else None


def test_what_is_gathered_has_the_limit_that_the_user_gave(node: Node, simulated: str) -> None:
    reason = train(node, simulated, "gather", "1000")
    assert "the limit is 1000 B" in reason and "raise gather_bytes" in reason
    assert train(node, simulated, "gather", str(1 << 20)) == ""


def test_no_memory_of_the_device_is_taken_where_the_user_gives_none(
    node: Node, simulated: str
) -> None:
    assert train(node, simulated, "staging", "0") == 0
    assert train(node, simulated, "staging", "50") > 0


# A memory lock limit makes snapshots slower, and is no error in the training.
def test_snapshots_whose_buffers_cannot_be_pinned_are_taken_and_say_so(
    node: Node, simulated: str
) -> None:
    note, warnings, rate = train(node, simulated, "pageable")
    assert "buffers cannot be pinned" in note and "cudaHostAlloc" in note
    assert warnings.count(note) == 1, warnings
    assert rate > 0


# A job that could take snapshots under a memory lock limit can resume, and its user is told.
def test_a_restore_whose_buffers_cannot_be_pinned_says_so(node: Node, simulated: str) -> None:
    train(node, simulated, "save")
    step, same, note, warnings = train(node, simulated, "unpinned")
    assert (step, same) == (7, True)
    told = [line for line in warnings if "the buffers of the restore could not be pinned" in line]
    assert len(told) == 1 and "cudaHostRegister" in told[0], warnings
    assert "cudaHostRegister" in note
