"""Whoever waits for a drain at a terminal sees how far it is; in a pipe nothing is printed."""

from __future__ import annotations

import io
import os
import pathlib
import pty
import re
import subprocess
import sys

import pytest

from holdfast._drain import DrainProgress, Flushing, Meter
from node import Node

GIB = 2**30

# 16 MiB to a root that takes 4 MiB a second.
PROGRAM = """
import sys, torch, holdfast
model = torch.nn.Linear(2048, 2048)
checkpointer = holdfast.Checkpointer("job", model=model, persist=sys.argv[1], persist_every=1000)
checkpointer.restore()
checkpointer.prepare()
assert checkpointer.snapshot(1)
checkpointer.close()
print("durable")
"""
CONFIG = '[flush]\nbytes_per_second = "4MiB"\nblock = "1MiB"\nblocks_in_flight = 1\n'


def flushing(done: int, error: str = "", root: str = "/pfs", step: int = 1200) -> Flushing:
    return Flushing(root, 7, step, 96 * GIB, done, error)


def test_a_line_has_share_rate_and_time_left() -> None:
    meter = Meter("my-job")
    assert meter.line([flushing(GIB)], 0.0) == (
        "drain my-job 1200@7  1.00 GiB of 96.0 GiB  1 %  to /pfs"
    )
    assert meter.line([flushing(11 * GIB)], 5.0) == (
        "drain my-job 1200@7  11.0 GiB of 96.0 GiB  11 %  2.00 GiB/s  43s left  to /pfs"
    )
    # The newest snapshot comes after the one under way: its rate is its own.
    assert meter.line([flushing(0, step=1300)], 9.0).endswith("0 B of 96.0 GiB  0 %  to /pfs")


def test_the_folder_that_ends_last_is_shown_and_reasons_are_told() -> None:
    meter = Meter("my-job")
    both = [flushing(90 * GIB, root="/fast"), flushing(3 * GIB, root="/slow")]
    assert "/slow" in meter.line(both, 0.0)
    assert meter.line([flushing(0, "disk full")], 0.0).endswith("retries: disk full")
    waiting = Flushing("/pfs", 0, -1, 0, 0, "")
    assert meter.line([waiting], 0.0) == "drain my-job  waiting"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_is_made_safe_and_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast._drain._INTERVAL", 0.01)
    terminal = Terminal()
    seen = []

    def look() -> list[Flushing]:
        seen.append(1)
        return [flushing(0, "\x1b[2Jgone\n")]

    with DrainProgress("job", look, stream=terminal):
        while len(seen) < 3:
            pass
    text = terminal.getvalue()
    assert "\x1b" not in text and "\n" not in text and "?[2Jgone?" in text
    assert text.endswith("\r") and text.rsplit("\r", 2)[1].strip() == ""


def run_trainer(node: Node, root: pathlib.Path, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root)],
        env={**os.environ, **node.environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


@pytest.fixture
def slow_root(node: Node, tmp_path: pathlib.Path) -> pathlib.Path:
    node.stop()
    node.start(config=CONFIG)
    root = tmp_path / "durable"
    root.mkdir()
    return root


def test_a_terminal_sees_a_drain_advance(node: Node, slow_root: pathlib.Path) -> None:
    reads, writes = pty.openpty()
    trainer = run_trainer(node, slow_root, writes)
    os.close(writes)
    seen = b""
    while True:
        try:
            got = os.read(reads, 4096)
        except OSError:  # the other end is closed
            break
        if not got:
            break
        seen += got
    os.close(reads)
    assert trainer.stdout is not None and trainer.stdout.read() == b"durable\n"
    assert trainer.wait(60) == 0, seen
    text = seen.decode()
    shares = [int(share) for share in re.findall(r"(\d+) %", text)]
    assert len(set(shares)) >= 3, text
    assert shares == sorted(shares) and shares[-1] <= 100
    assert f"to {slow_root}"[:15] in text, text
    assert "drain job 1@1  " in text and "MiB/s" in text and "s left" in text, text


def test_a_pipe_sees_nothing(node: Node, slow_root: pathlib.Path) -> None:
    trainer = run_trainer(node, slow_root, subprocess.PIPE)
    out, err = trainer.communicate(timeout=60)
    assert (trainer.returncode, out, err) == (0, b"durable\n", b"")


def test_status_shows_a_flush_under_way(node: Node, slow_root: pathlib.Path) -> None:
    trainer = run_trainer(node, slow_root, subprocess.DEVNULL)
    seen = set()
    shown = False
    while trainer.poll() is None:
        job = node.job()
        for tier in job["tiers"] if job else []:
            if tier["flushing"] is not None:
                assert tier["flushing"]["step"] == 1
                assert 0 <= tier["flushing_done_bytes"] <= tier["flushing_bytes"]
                seen.add(tier["flushing_done_bytes"])
                shown = shown or "FLUSHING" in node.cli("status").stdout
    assert len(seen) >= 3, seen
    assert shown
    job = node.job()
    assert job is not None and job["tiers"][0]["flushing"] is None
