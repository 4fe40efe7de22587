"""One run of the example over several nodes: a torchrun on each, as a scheduler starts them."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from typing import Any

from cluster import Cluster
from node import DemoError, alive, signal_process, wait_for
from training import HERE, RUN_SECONDS, digests_in, restores_in

JOB = "demo-nodes"
STEPS = 60


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class NodesTraining:
    """A rank on every node of a cluster.  Nobody restarts anything: the demo is the scheduler."""

    def __init__(self, cluster: Cluster, folder: pathlib.Path, out: pathlib.Path) -> None:
        folder.mkdir(parents=True)
        self.out = out
        self._cluster = cluster
        self._logs = [folder / f"node{i + 1}.log" for i in range(len(cluster.nodes))]
        marks = folder / "marks"
        marks.mkdir()
        plan: dict[str, Any] = {"sure": [STEPS], "folder": str(marks)}
        port = _free_port(cluster.address(0))
        self._agents = [
            self._launch(i, port, json.dumps(plan)) for i in range(len(cluster.nodes))
        ]

    def _launch(self, i: int, port: int, plan: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "torch.distributed.run",
            "--nnodes", str(len(self._cluster.nodes)), "--node-rank", str(i),
            "--nproc-per-node", "1",
            "--master-addr", self._cluster.address(0), "--master-port", str(port),
            "--max-restarts", "0",
            str(HERE / "trainer.py"),
            "--steps", str(STEPS), "--job", JOB, "--size", "small", "--out", str(self.out),
            "--batch", "8",
        ]  # fmt: skip
        environment = {
            **os.environ,
            **self._cluster.nodes[i].environment,
            "HOLDFAST_DEMO_PLAN": plan,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        with open(self._logs[i], "wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def output(self, i: int = 0) -> str:
        return self._logs[i].read_text(errors="replace")

    def require_running(self) -> None:
        for i, agent in enumerate(self._agents):
            if agent.poll() is not None:
                raise DemoError(f"torchrun on node {i + 1} ended with {agent.returncode}; its "
                                f"output ends with:\n{self.output(i)[-3000:]}")

    def kill_on(self, i: int) -> None:
        """kill -9 to node i's rank and its torchrun."""
        job = self._cluster.nodes[i].job()
        ranks = [r["pid"] for r in job["ranks"]] if job else []
        self._agents[i].kill()
        for pid in ranks:
            signal_process(pid, signal.SIGKILL)
        self._agents[i].wait()
        wait_for("the end of a rank", lambda: None if any(map(alive, ranks)) else True)

    def end(self) -> None:
        """What a scheduler does with the rest of a job that lost a node."""
        for agent in self._agents:
            if agent.poll() is None:
                agent.terminate()
        for agent in self._agents:
            try:
                agent.wait(30)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()

    def finish(self) -> None:
        for i, agent in enumerate(self._agents):
            try:
                code = agent.wait(RUN_SECONDS)
            except subprocess.TimeoutExpired:
                code = -1
            if code != 0:
                raise DemoError(f"torchrun on node {i + 1} ended with {code}; its output ends "
                                f"with:\n{self.output(i)[-3000:]}")

    def resumed(self) -> tuple[int, str] | None:
        """(step, source) of the restore, as rank 0 printed it."""
        found = restores_in(self.output())
        return found[0] if found else None

    def digests(self) -> dict[str, str]:
        return digests_in(self.out, len(self._agents))
