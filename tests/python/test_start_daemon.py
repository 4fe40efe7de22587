"""A daemon for this user: one, however many ask, and found again."""

from __future__ import annotations

import logging
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import torch

import holdfast
from holdfast import _daemon, _skips
from node import alive, wait_for

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = (
    "import sys, time, torch, holdfast\n"
    "print('ready', flush=True)\n"
    "sys.stdin.read()\n"
    "c = holdfast.Checkpointer('job-' + sys.argv[1], model=torch.nn.Linear(2, 2))\n"
    "c.close()\n"
    "print('connected', flush=True)\n"
)


@pytest.fixture
def user(
    built: dict[str, str], tmp_path: pathlib.Path, arena: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[pathlib.Path]:
    """A user without a daemon.  Ends what was started for that user."""
    monkeypatch.delenv("HOLDFAST_SOCKET", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOLDFAST_DAEMON_FLAGS", f"--arena {arena} --budget 128MiB --metrics off")
    monkeypatch.setattr(_daemon, "_SYSTEM_SOCKET", str(tmp_path / "no-system-daemon"))
    yield tmp_path / "holdfast"
    for pid in daemons(arena):
        os.kill(pid, signal.SIGTERM)
        wait_for("the daemon's end", lambda: None if alive(pid) else True, 20)


def daemons(arena: pathlib.Path) -> list[int]:
    """Processes of holdfastd on that arena."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"/holdfastd") and str(arena).encode() in words:
            found.append(int(path.parent.name))
    return [pid for pid in found if alive(pid)]


def start(name: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(HERE.parents[1] / "client/python"), str(HERE)])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, name],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_eight_racing_trainers_start_one_daemon_that_outlives_them(
    user: pathlib.Path, arena: pathlib.Path
) -> None:
    trainers = [start(str(i)) for i in range(8)]
    for trainer in trainers:
        assert trainer.stdout is not None and trainer.stdout.readline() == "ready\n"
    for trainer in trainers:  # all are waiting for this
        assert trainer.stdin is not None
        trainer.stdin.close()
        trainer.stdin = None
    ended = [t.communicate(timeout=120) for t in trainers]
    assert [t.returncode for t in trainers] == [0] * 8, ended
    assert sum("started holdfastd" in error for _, error in ended) == 1
    (pid,) = daemons(arena)
    assert os.getsid(pid) == pid, "a session of its own"
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        assert "pipe" not in os.readlink(descriptor) or int(descriptor.name) > 2
    later = start("later")
    _, error = later.communicate("go", timeout=60)
    assert later.returncode == 0 and "started" not in error
    assert daemons(arena) == [pid]


def test_a_daemon_that_dies_under_training_is_told_and_started_again(
    user: pathlib.Path, arena: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel killed it, and no service manager starts it: nothing more would ever be saved."""
    with holdfast.Checkpointer("job", model=torch.nn.Linear(2, 2)) as checkpointer:
        checkpointer.restore()
        checkpointer.prepare()
        assert checkpointer.snapshot(1)
        checkpointer.wait(1)
        (first,) = daemons(arena)
        with caplog.at_level(logging.WARNING, "holdfast"):
            os.kill(first, signal.SIGKILL)
            wait_for("its end", lambda: None if alive(first) else True, 20)
            # The first ones still fit into slots that were granted before.
            step = 1
            deadline = time.monotonic() + 60
            while not (checkpointer.snapshot(step := step + 1) and daemons(arena)):
                assert time.monotonic() < deadline
                checkpointer.fence()
                time.sleep(0.02)
            checkpointer.wait(step)
        (second,) = daemons(arena)
    told = [record.getMessage() for record in caplog.records]
    # A step that found no slot may have come before.
    away = re.compile(r"is not saved(, like the \d+ before it)?: holdfastd is away")
    assert len(told) < 5 and any(away.search(text) for text in told), told
    assert second != first


def test_a_daemon_that_is_not_ours_is_not_started_again(
    user: pathlib.Path, arena: pathlib.Path
) -> None:
    with holdfast.Checkpointer("job", model=torch.nn.Linear(2, 2)) as checkpointer:
        client = checkpointer._connected()
        assert _skips.restarter(client, None, True) is not None
        assert _skips.restarter(client, None, False) is None
        assert _skips.restarter(client, "/run/other.sock", True) is None
        client.socket = _daemon._SYSTEM_SOCKET
        assert _skips.restarter(client, None, True) is None


def test_autostart_can_be_switched_off(user: pathlib.Path, arena: pathlib.Path) -> None:
    with pytest.raises(holdfast.UnavailableError):
        holdfast.Checkpointer("job", autostart=False, timeout=0.5)
    assert daemons(arena) == []


def test_a_named_socket_is_the_only_one_tried(
    user: pathlib.Path, arena: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(holdfast.UnavailableError, match="other.sock"):
        holdfast.Checkpointer("job", socket=tmp_path / "other.sock", timeout=0.5)
    assert daemons(arena) == []


def test_a_daemon_that_cannot_start_is_told_with_the_end_of_its_log(
    user: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_DAEMON_FLAGS", "--budget nonsense")
    with pytest.raises(holdfast.UnavailableError, match="budget"):
        holdfast.Checkpointer("job")


def test_the_command_line_program_is_reached_through_the_package(user: pathlib.Path) -> None:
    path = str(HERE.parents[1] / "client/python")
    answer = subprocess.run(
        [sys.executable, "-m", "holdfast", "--version"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0 and "holdfast" in answer.stdout
