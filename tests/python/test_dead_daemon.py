"""A daemon that is killed, and does not come back: what it left is seen, exported and made durable
with the command alone, bit for bit."""

from __future__ import annotations

import json
import pathlib

import pytest
import safetensors.torch
import torch

import holdfast
from node import Node
from support import Training, make, raw, take


class Left:
    """A trainer of some steps whose daemon was killed with kill -9, and its places as flags."""

    def __init__(self, node: Node) -> None:
        self.training = Training()
        checkpointer = make(self.training)
        checkpointer.restore()
        for step in range(1, 4):
            self.training.step()
            take(checkpointer, step)
        self.digest = self.training.digest()
        node.kill()
        checkpointer.close(drain=False)
        self.places = ("--state-dir", str(node.state), "--arena", str(node.arena))


@pytest.fixture
def left(node: Node) -> Left:
    return Left(node)


def same_bits(file: pathlib.Path, training: Training) -> None:
    held: dict[str, torch.Tensor] = safetensors.torch.load_file(file)
    for name, tensor in training.model.state_dict().items():
        assert raw(held[name]) == raw(tensor), name
    state = training.optimizer.state[training.model[0].weight]
    assert raw(held["optimizer.state.0.weight.exp_avg"]) == raw(state["exp_avg"])


def test_status_names_what_can_be_restored(node: Node, left: Left) -> None:
    assert node.cli("status").returncode == 4, "nobody answers"
    status = node.cli("status", *left.places)
    assert status.returncode == 0, status.stderr
    assert "holdfastd is not running" in status.stdout
    document = json.loads(node.cli("status", *left.places, "--json").stdout)
    assert document["daemon"]["running"] is False
    assert document["arena"]["sealed_slots"] >= 1
    (job,) = document["jobs"]
    assert job["restorable"]["step"] == 3
    assert job["restorable_from"] == [str(node.arena)]


def test_status_of_a_living_daemons_state_says_that_it_lives(node: Node) -> None:
    places = ("--state-dir", str(node.state), "--arena", str(node.arena))
    document = node.json("status", *places)
    assert document["daemon"]["running"] is True
    assert document["daemon"]["pid"] == node.pid


def test_export_from_a_dead_daemons_memory_has_the_trainers_bits(
    node: Node, left: Left, tmp_path: pathlib.Path
) -> None:
    to = tmp_path / "out"
    exported = node.cli("export", "job", "newest", "--to", str(to), *left.places)
    assert exported.returncode == 0, exported.stderr
    same_bits(to / "rank-00000.safetensors", left.training)


def test_restore_from_a_dead_daemons_memory_feeds_the_next_start(
    node: Node, left: Left, tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "durable"
    root.mkdir()
    restored = node.cli("restore", "job", "newest", "--to-root", str(root), *left.places)
    assert restored.returncode == 0, restored.stderr
    (file,) = root.glob("job/step-00000003.i*/rank-00000.safetensors")
    same_bits(file, left.training)
    # As on another machine: nothing is left but the folder.
    node.lose_memory()
    node.state.rename(tmp_path / "lost")
    node.state.mkdir(mode=0o700)
    node.start()
    other = Training(seed=5)
    with make(other, persist=root) as again:
        assert again.restore() == 3
        assert again.restored is not None and again.restored.source == f"persistent {root}"
        assert again.incarnation.number == 2, "not a history that counts as older"
        assert other.digest() == left.digest


def test_the_job_goes_on_from_memory_after_it_was_made_durable(
    node: Node, left: Left, tmp_path: pathlib.Path
) -> None:
    """Nothing of the state was changed by looking, exporting and restoring."""
    root = tmp_path / "durable"
    root.mkdir()
    assert node.cli("verify", *left.places).returncode == 0
    copied = node.cli("restore", "job", "newest", "--to-root", str(root), *left.places)
    assert copied.returncode == 0, copied.stderr
    node.start()
    other = Training(seed=5)
    with make(other, persist=root) as again:
        assert again.restore() == 3
        assert again.restored is not None and again.restored.source == "arena"
        assert other.digest() == left.digest
        other.step()
        take(again, 4)
        assert again.drain() == holdfast.Drained(again.incarnation.number, 4, True, "")
