"""Steps that are skipped are counted, each once, whatever the daemon does meanwhile."""

from __future__ import annotations

import urllib.request

import holdfast
from node import Node, wait_for
from support import Training, free_port, make, take

METRIC = 'holdfast_snapshots_missed_total{reason="no_slot"}'


def start(node: Node, checkpointer: holdfast.Checkpointer) -> None:
    node.start(metrics=f"127.0.0.1:{free_port()}")
    wait_for("the connection", lambda: checkpointer.stats.connected or None)


def skip(training: Training, checkpointer: holdfast.Checkpointer, steps: range) -> None:
    for step in steps:
        training.step()
        assert checkpointer.snapshot(step).skipped


def missed(node: Node) -> int:
    job = node.job()
    assert job is not None
    count: int = job["ranks"][0]["missed"]
    return count


def counted(node: Node, at_least: int) -> int:
    """Metrics are published once in a while."""
    address = node.json("status")["daemon"]["metrics_address"]

    def look() -> int | None:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(METRIC)]
        assert len(values) == 1, values
        found = int(float(values[0]))
        return found if found >= at_least else None

    return wait_for(f"{at_least} missed steps in the metrics", look, 15.0)


def test_each_skipped_step_counts_once_over_restarts_of_the_daemon(node: Node) -> None:
    training = Training()
    with make(training) as checkpointer:
        checkpointer.restore()
        training.step()
        take(checkpointer, 1)
        node.kill()
        wait_for("the loss to be seen", lambda: None if checkpointer.stats.connected else True)
        skip(training, checkpointer, range(2, 7))
        start(node, checkpointer)
        take(checkpointer, 7)
        assert missed(node) == 5
        assert counted(node, 5) == 5

        node.stop()
        wait_for("the loss to be seen", lambda: None if checkpointer.stats.connected else True)
        skip(training, checkpointer, range(8, 10))
        start(node, checkpointer)
        take(checkpointer, 10)
        assert missed(node) == 7, "of this process"
        assert counted(node, 2) == 2, "what the last daemon counted is not counted again"
