"""A catalog that is damaged: the daemon says what to do, and what it says is the way out."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Callable

import pytest

from node import Node
from support import Training, make, take


def lose_current(db: pathlib.Path) -> None:
    (db / "CURRENT").unlink()


def lose_the_log(db: pathlib.Path) -> None:
    for log in db.glob("*.log"):
        log.unlink()


def flip_the_manifest(db: pathlib.Path) -> None:
    (manifest,) = db.glob("MANIFEST-*")
    data = bytearray(manifest.read_bytes())
    data[10] ^= 1
    manifest.write_bytes(data)


def holdfastd(node: Node, *more: str) -> subprocess.CompletedProcess[str]:
    """Of one that does not start, or is ended by a signal at once."""
    program = pathlib.Path(node.environment["HOLDFAST_BIN"]) / "holdfastd"
    return subprocess.run(
        [
            str(program), "--user", "--budget", "512MiB", *more,
            "--state-dir", str(node.state), "--arena", str(node.arena),
            "--socket", node.environment["HOLDFAST_SOCKET"],
        ],
        env={**os.environ, **node.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("damage", [lose_current, lose_the_log, flip_the_manifest])
def test_the_way_out_of_a_damaged_catalog_is_what_the_message_says(
    node: Node, tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    training = Training()
    with make(training, persist=node.root) as checkpointer:
        checkpointer.restore()
        training.step()
        take(checkpointer, 1)
    node.stop()
    damage(node.state / "catalog/db")

    for _ in range(2):
        refused = holdfastd(node)
        assert refused.returncode == 3, refused.stderr
        assert "move the folder away" in refused.stderr, refused.stderr
        assert str(node.state / "catalog/db") in refused.stderr
    (node.state / "catalog").rename(tmp_path / "away")
    refused = holdfastd(node)
    assert refused.returncode == 3, refused.stderr
    assert "--discard-arena" in refused.stderr, refused.stderr

    node.start(flags=("--discard-arena",))
    other = Training(seed=5)
    with make(other, persist=node.root) as again:
        assert again.restore() == 1
        assert again.restored is not None and again.restored.source == f"persistent {node.root}"
        assert other.digest() == training.digest()
