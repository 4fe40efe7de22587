"""Daemons and ranks in network namespaces (netns.py), and what is seen of them, for test_netns*.py."""

from __future__ import annotations

import dataclasses
import pathlib
import signal
import threading
from collections.abc import Callable
from typing import Any

import chaos
import cluster
import netns
import node_ranks
import pytest
from node import Node, signal_process, wait_for
from processes import run_all
from test_nodes import Cluster, Outputs
from test_parity import digests

COUNT = 4
EVERYWHERE = list(range(COUNT))
CODING = "[coding]\ndata = 2\nparity = 2\n"
#: Of four daemons on a machine that does other things too.
SOON = 45.0


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips where there can be none."""
    reason = netns.why_not()
    if reason is not None:
        pytest.skip(reason)


class NetCluster(Cluster):
    """Nodes with a network of their own; ranks run where their daemon does."""

    wait = "6s"  # restore.wait of daemons that are started from then on

    def __init__(self, folder: pathlib.Path, built: dict[str, str], count: int = COUNT) -> None:
        self.network = netns.Network(count)
        super().__init__(folder, built, count)
        for i, node in enumerate(self.nodes):
            node.launcher = self.network.launcher(i)

    def address(self, i: int) -> str:
        return self.network.address(i)

    def start(self, i: int, failpoints: str = "", more: str = "") -> None:
        listen = f'listen = "{self.address(i)}:{cluster.PORT}"\nallow_insecure = true\n'
        config = f'[peer]\n{listen}dead_after = "2s"\n[restore]\nwait = "{self.wait}"\n{CODING}{more}'
        self.nodes[i].start(failpoints, config=config)

    def run(
        self, function: Callable[..., None], places: list[int], store: pathlib.Path, *more: Any
    ) -> Outputs:
        """function(rank, world, store, *more) in a process of each rank r, on node places[r]."""
        calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        for rank, place in enumerate(places):
            own = (rank, len(places), str(store), *more)
            calls.append((netns.inside, (self.network.names[place], function, *own)))
        card = {"GLOO_SOCKET_IFNAME": "train"}
        return run_all(calls, environments=[self.nodes[p].environment | card for p in places])

    def kill_ranks(self, nodes: list[int]) -> None:
        for i in nodes:
            daemon = self.nodes[i].process
            for pid in self.network.processes(i):
                if daemon is None or pid != daemon.pid:
                    signal_process(pid, signal.SIGKILL)

    def uuid(self, i: int) -> str:
        """As messages name it."""
        return str(self.nodes[i].json("status")["daemon"]["node_uuid"]).replace("-", "")

    def clean(self) -> None:
        try:
            self.kill_ranks(list(range(len(self.nodes))))
            for node in self.nodes:
                if node.process is not None:
                    signal_process(node.pid, signal.SIGCONT)
            super().clean()
        finally:
            self.network.remove()


class Training:
    """Ranks that train on and on in the background, and write down what they had at each step."""

    def __init__(
        self,
        nodes: NetCluster,
        places: list[int],
        folder: pathlib.Path,
        function: Callable[..., None] = node_ranks.go_on,
        *more: Any,
    ) -> None:
        """folder: of all starts of the job.  function(rank, world, store, folder, *more) is a rank."""
        folder.mkdir(exist_ok=True)
        self._nodes, self._places, self._folder = nodes, places, folder
        store, self._start = next_store(folder)
        self._outputs: list[Outputs] = []
        call = (function, places, store, str(folder), *(more or (60.0,)))
        self._thread = threading.Thread(target=lambda: self._outputs.append(nodes.run(*call)))
        self._thread.start()

    def _lines(self, name: str, rank: int) -> list[tuple[int, str]]:
        return lines(self._folder, name, rank)

    def _require_running(self) -> None:
        assert self._thread.is_alive(), self._outputs

    def restored(self) -> None:
        """Waits until all ranks train."""

        def there() -> bool | None:
            self._require_running()
            counts = [len(self._lines("restored", r)) for r in range(len(self._places))]
            return True if min(counts) >= self._start else None

        wait_for("the start of all ranks", there, 60.0)

    def steps(self) -> int:
        """The last that every rank has trained."""
        return min(max((s for s, _ in self._lines("digests", r)), default=0)
                   for r in range(len(self._places)))

    def goes_on(self, steps: int = 25) -> None:
        """L: all ranks train on."""
        wanted = self.steps() + steps

        def there() -> bool | None:
            self._require_running()
            return True if self.steps() >= wanted else None

        wait_for(f"step {wanted} on every rank", there, 20.0)

    def judge(self, least: int) -> int:
        """The step that this start began from, if it is what was promised."""
        last = [self._lines("restored", rank)[-1] for rank in range(len(self._places))]
        return judge(last, self._folder, least)

    def kill(self) -> None:
        self._nodes.kill_ranks(self._places)
        self.join()

    def join(self) -> Outputs:
        self._thread.join(90.0)
        assert not self._thread.is_alive(), "ranks outlived their end"
        return self._outputs[0]


def next_store(folder: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Where the ranks of the next start meet, and its number from 1."""
    number = len(list(folder.glob("start-*"))) + 1
    (folder / f"start-{number}").touch()
    return folder / f"store-{number}", number


def lines(folder: pathlib.Path, name: str, rank: int) -> list[tuple[int, str]]:
    path = folder / f"{name}.{rank}"
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [(int(step), digest) for step, digest in (line.split() for line in whole)]


def judge(restored: list[tuple[int, str]], folder: pathlib.Path, least: int) -> int:
    """Every rank has, bit for bit, what it had at one step, which is not older than "least"."""
    trained = [lines(folder, "digests", rank) for rank in range(len(restored))]
    return chaos.judge(restored, trained, least)


def restore(nodes: NetCluster, places: list[int], folder: pathlib.Path, least: int) -> int:
    """What the next start of the job gets back; its step."""
    store, _ = next_store(folder)
    shown = nodes.run(node_ranks.show, places, store, 77)
    assert [code for code, _ in shown] == [0] * len(shown), shown
    restored = [next(iter(digests(output).items())) for _, output in shown]
    return judge(restored, folder, least)


# ---- what the command line program says ----


def protected(node: Node, above: int = 0) -> int | None:
    """Step of the newest snapshot that is protected in full, if that is above a step."""
    job = node.job()
    if job is None or job["protected"] is None or job["margin"] != 2:
        return None
    step = int(job["protected"]["step"])
    return step if step > above else None


def connected(node: Node) -> int:
    return sum(bool(p["connected"]) for p in node.json("status")["daemon"]["peers"])


@dataclasses.dataclass(frozen=True)
class Complaints:
    """Why snapshots are not protected, and why each rank of a node skipped its last step."""

    missed: int
    texts: list[str]

    @staticmethod
    def of(node: Node) -> Complaints:
        job = node.job()
        assert job is not None
        reasons = [str(rank["last_missed_reason"]) for rank in job["ranks"]]
        return Complaints(
            sum(int(rank["missed"]) for rank in job["ranks"]), [str(job["not_protected"]), *reasons]
        )

    def name(self, uuids: list[str]) -> bool:
        """Each of them one of these nodes."""
        return all(any(uuid in text for uuid in uuids) for text in self.texts)


def held(node: Node) -> bool | None:
    """Whether its io thread sleeps in a failpoint: nothing else of it sleeps there."""
    text = pathlib.Path(f"/proc/{node.pid}/wchan").read_text()
    return True if "nanosleep" in text else None
