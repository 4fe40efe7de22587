"""Real daemons and trainers that die, are replaced, give memory back: what is promised then."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import re
import signal
import time
import urllib.request
from typing import Any

import pytest
import torch

import holdfast
import trainer_process
from node import Node, alive, wait_for
from processes import run_all
from support import Training, free_port, make, take

def die(mode: str, argument: str) -> dict[int, str]:
    """Digests that a trainer printed before it was killed, by step."""
    ((code, output),) = run_all([(trainer_process.main, (mode, argument))])
    assert code == -signal.SIGKILL, output
    return {int(s): d for s, d in re.findall(r"digest (\d+) (\w+)", output)}


@pytest.mark.parametrize(
    "failpoint, back",
    [("client.copy.chunk", {2}), ("client.before_seal", {2}), ("client.after_seal_sent", {2, 3})],
)
def test_a_trainer_killed_at_its_third_snapshot_comes_back_whole(
    node: Node, failpoint: str, back: set[int]
) -> None:
    """I7, I3: what was copied but not sealed is not there, what was sealed is."""
    digests = die("arm", f"{failpoint}=kill")
    training = Training(seed=8)
    with make(training) as checkpointer:
        step = checkpointer.restore()
        assert step in back
        assert training.digest() == digests[step]
        take(checkpointer, step + 1)


def test_a_worker_that_outlives_its_killed_trainer_disturbs_nothing(
    node: Node, tmp_path: pathlib.Path
) -> None:
    """I7: the slot that was being filled is not used again, and death is not the socket's end."""
    digests = die("fork", str(tmp_path / "pid"))
    worker = int((tmp_path / "pid").read_text())
    try:
        assert alive(worker)
        training = Training(seed=8)
        with make(training) as checkpointer:
            assert checkpointer.restore() == 2
            assert training.digest() == digests[2]
            for step in range(3, 7):
                training.step()
                take(checkpointer, step)
            assert alive(worker)
    finally:
        os.kill(worker, signal.SIGKILL)
    wait_for("the end of the quarantine", lambda: quarantined(node) == 0 or None)


def quarantined(node: Node) -> int:
    return int(node.json("status")["arena"]["quarantined_bytes"])


def used(node: Node) -> int:
    return int(node.json("status")["arena"]["used_bytes"])


def test_an_upgrade_under_a_running_copy_loses_nothing(node: Node, tmp_path: pathlib.Path) -> None:
    """SIGTERM, then a new daemon; the copy that was under way is sealed by it."""
    training = Training()
    with make(training) as checkpointer:
        checkpointer.restore()
        training.step()
        checkpointer.prepare()
        holdfast.arm_failpoints(f"client.copy.chunk=wait:{tmp_path / 'go'}")
        assert checkpointer.snapshot(1)
        expected = training.digest()
        node.stop()
        assert node.process is not None and node.process.returncode == 0
        node.start()
        (tmp_path / "go").touch()
        training.step()  # the fence needs no daemon
        checkpointer.wait(1)
        assert checkpointer.stats.torn == checkpointer.stats.failed == 0
        assert checkpointer.stats.reconnects == 1
    other = Training(seed=2)
    with make(other) as again:
        assert again.restore() == 1
        assert other.digest() == expected


def test_finish_gives_all_memory_back_and_training_may_go_on(node: Node) -> None:
    training = Training()
    with make(training) as checkpointer:
        checkpointer.restore()
        take(checkpointer, 1)
        assert checkpointer.finish() > 0
    wait_for("the memory", lambda: used(node) == 0 or None)
    with make(Training()) as again:
        assert again.restore() == 0


def test_a_dropped_job_is_gone_and_a_live_one_is_refused(node: Node) -> None:
    die("arm", "client.before_seal=kill")
    assert used(node) > 0
    dropped = node.cli("drop", "job")
    assert dropped.returncode == 0, dropped.stderr
    wait_for("the memory", lambda: used(node) == 0 or None)
    with make(Training()) as checkpointer:
        assert checkpointer.restore() == 0
        take(checkpointer, 1)
        refused = node.cli("drop", "job")
        assert refused.returncode == 5 and "force" in refused.stderr
        assert used(node) > 0


def test_the_memory_of_an_orphan_is_kept_for_its_time_only(node: Node) -> None:
    node.stop()
    node.start(config='[snapshots]\norphan_ttl = "3s"\n[restore]\nresume_wait = "500ms"\n')
    die("arm", "client.before_seal=kill")
    assert used(node) > 0
    wait_for("the end of the orphan", lambda: used(node) == 0 or None, 30)
    with make(Training()) as checkpointer:
        assert checkpointer.restore() == 0
        take(checkpointer, 1)
        time.sleep(4)
        assert used(node) > 0, "its trainer lives"


def test_discarded_snapshots_stay_listed(node: Node, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "durable"
    root.mkdir()
    training = Training()
    policy: dict[str, Any] = {"persist": root, "persist_every": 1, "keep_last": 5}
    with make(training, **policy) as checkpointer:
        checkpointer.restore()
        for step in range(1, 4):
            training.step()
            take(checkpointer, step)
            checkpointer.drain()
    with make(training, **policy) as again:
        assert again.restore(step=2) == 2
        listed = {s["step"]: s["discarded"] for s in node.snapshots() if s["incarnation"] == 1}
        assert listed[3] is True and listed[2] is False
        take(again, 3)
    both = [s for s in node.snapshots() if s["step"] == 3]
    assert {(s["incarnation"], s["discarded"]) for s in both} == {(1, True), (2, False)}


class Bomb:
    """Runs code when it is unpickled."""

    fired = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (_fire, ())


def _fire() -> str:
    Bomb.fired += 1
    return "unpickled"


class Extra:
    def __init__(self) -> None:
        self.state: dict[str, Any] = {"bomb": Bomb()}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def test_pickled_state_is_loaded_only_where_that_is_allowed(node: Node) -> None:
    def one(allowed: bool) -> tuple[Extra, holdfast.Checkpointer]:
        extra = Extra()
        model = torch.nn.Linear(2, 2)
        if not allowed:
            extra.state = {"bomb": "none"}
        return extra, holdfast.Checkpointer("job", model=model, extra=extra, allow_pickle=allowed)

    _, saver = one(True)
    saver.restore()
    take(saver, 1)
    saver.close()
    Bomb.fired = 0
    extra, refuser = one(False)
    with pytest.raises(holdfast.StateError, match="allow_pickle"):
        refuser.restore()
    refuser.close(drain=False)
    assert Bomb.fired == 0 and extra.state == {"bomb": "none"}
    extra, allowed = one(True)
    assert allowed.restore() == 1
    assert Bomb.fired == 1 and extra.state == {"bomb": "unpickled"}
    extra.state = {}
    allowed.close(drain=False)


def test_the_metrics_endpoint_tells_what_happened(node: Node) -> None:
    port = free_port()
    node.stop()
    node.start(metrics=f"127.0.0.1:{port}")

    def scrape() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.findall(r"^(holdfast_\w+)(?:\{[^}]*\})? ([\d.e+-]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    training = Training()
    with make(training) as checkpointer:
        checkpointer.restore()
        for step in range(1, 4):
            training.step()
            take(checkpointer, step)
        checkpointer.drain()
        # Counters are taken from the daemon now and then, not at each scrape.
        values = wait_for(
            "the counters",
            lambda: v if (v := scrape())["holdfast_snapshots_sealed_total"] == 3 else None,
            20,
        )
        assert values["holdfast_snapshots_complete_total"] == 3
        assert values["holdfast_restore_requests_total"] == 1
        assert values["holdfast_digest_mismatches_total"] == 0


def test_a_missing_persistent_folder_is_told_early_and_ends_a_drain_soon(
    node: Node, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "typing-error"
    # Of a job that is not known here the folder may be all that there is: no start without it.
    with pytest.raises(holdfast.UnavailableError, match="may hold it but cannot be read"):
        make(Training(), persist=root, persist_every=1)
    with make(Training()) as first:
        first.restore()
        take(first, 1)
    with caplog.at_level(logging.WARNING, "holdfast"):
        checkpointer = make(Training(), persist=root, persist_every=1)
    assert f"{root} does not exist" in caplog.text
    assert checkpointer.restore(timeout=60) == 1
    take(checkpointer, 2)
    began = time.monotonic()
    with pytest.raises(holdfast.UnavailableError, match=f"not durable on {root}"):
        checkpointer.close(timeout=60)
    assert time.monotonic() - began < 30
    with contextlib.closing(make(Training(), persist=tmp_path)) as again:
        assert again.restore() == 2
