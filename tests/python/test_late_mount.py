"""A job that is started before the file system of its root is mounted: what it then finds there is
another history of the name, and neither is lost."""

from __future__ import annotations

import pathlib

import pytest
import safetensors.torch

import holdfast
from node import Node
from support import Training, make, raw, take


def train(root: pathlib.Path, seed: int, steps: int) -> Training:
    training = Training(seed=seed)
    checkpointer = make(training, persist=root)
    assert checkpointer.restore() == 0
    for step in range(1, steps + 1):
        training.step()
        take(checkpointer, step)
    checkpointer.close()
    return training


def train_before_the_mount(node: Node, tmp_path: pathlib.Path, below: pathlib.Path) -> Training:
    """On another machine, where the file system of the root is not mounted; then it is, and what
    was written under the mount point is in "below"."""
    node.stop()
    node.lose_memory()
    node.state.rename(tmp_path / "first")
    node.state.mkdir(mode=0o700)
    mounted = tmp_path / "mounted"
    node.root.rename(mounted)
    node.root.mkdir()
    node.start()
    stray = train(node.root, 2, 2)
    node.root.rename(below)
    mounted.rename(node.root)
    return stray


def test_a_job_started_before_its_root_was_mounted_finds_its_way_back(
    node: Node, tmp_path: pathlib.Path
) -> None:
    real = train(node.root, 1, 3)
    below = tmp_path / "below"
    stray = train_before_the_mount(node, tmp_path, below)

    late = Training(seed=3)
    with pytest.raises(holdfast.AlreadyExistsError, match="holdfast drop job --forget"):
        make(late, persist=node.root).restore()

    # What was trained meanwhile can be kept, and then the job on the root goes on.
    out = tmp_path / "out"
    exported = node.cli("export", "job", "2", "--to", str(out))
    assert exported.returncode == 0, exported.stderr
    held = safetensors.torch.load_file(out / "rank-00000.safetensors")
    for name, tensor in stray.model.state_dict().items():
        assert raw(held[name]) == raw(tensor), name
    assert node.cli("verify", "--root", str(below)).returncode == 0
    dropped = node.cli("drop", "job", "--forget")
    assert dropped.returncode == 0, dropped.stderr
    with make(late, persist=node.root) as checkpointer:
        assert checkpointer.restore() == 3
        assert checkpointer.incarnation.number == 2
        assert late.digest() == real.digest()


def test_training_can_go_on_from_memory_with_another_root(
    node: Node, tmp_path: pathlib.Path
) -> None:
    """The other way out: what was trained in the empty mount point is the history to keep."""
    train(node.root, 1, 3)
    other = tmp_path / "other"
    other.mkdir()
    stray = train_before_the_mount(node, tmp_path, tmp_path / "below")
    late = Training(seed=3)
    with make(late, persist=other) as checkpointer:
        assert checkpointer.restore() == 2
        assert late.digest() == stray.digest()
