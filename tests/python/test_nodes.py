"""A job over several nodes: real daemons that talk to each other, each serving some of the ranks."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cluster
import node_ranks
import pytest
import ranks
from node import Node, wait_for
from processes import run_all
from test_ranks import lines

Outputs = list[tuple[int | None, str]]

CODING = "[coding]\ndata = 2\nparity = 2\n"
GATE = 4
INCOMPLETE, BAD = 7, 3  # exits of the command line program


class Gated:
    """Ranks that train in the background, and stand still at step "gate" until they may go on."""

    def __init__(self, nodes: Cluster, places: list[int], store: pathlib.Path, gate: int) -> None:
        self._store, self._world = store, len(places)
        self._outputs: list[Outputs] = []
        call = (node_ranks.main, places, store, gate, 1, "die")
        self._thread = threading.Thread(target=lambda: self._outputs.append(nodes.run(*call)))
        self._thread.start()

    def arrived(self) -> None:
        for rank in range(self._world):
            at = pathlib.Path(f"{self._store}.at.{rank}")
            wait_for("the gate", lambda: at.exists() or None)

    def go_on(self) -> None:
        pathlib.Path(f"{self._store}.go").touch()

    def end(self) -> Outputs:
        self._thread.join()
        (outputs,) = self._outputs
        assert [code for code, _ in outputs] == [-9] * self._world, outputs
        return outputs


class Cluster(cluster.Cluster):
    """The demo's nodes, with ranks that are processes of this test."""

    def __init__(self, folder: pathlib.Path, built: dict[str, str], count: int) -> None:
        self.memory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-test-", dir="/dev/shm"))
        super().__init__(folder, self.memory, built, count)

    def start(self, i: int, failpoints: str = "", more: str = "") -> None:
        super().start(i, failpoints, f'{more}[restore]\nwait = "10s"\n')

    def run(
        self, function: Callable[..., None], places: list[int], store: pathlib.Path, *more: Any
    ) -> Outputs:
        """function(rank, world, store, *more) in a process of each rank r, on node places[r]."""
        calls = [(function, (r, len(places), str(store), *more)) for r in range(len(places))]
        return run_all(calls, environments=[self.nodes[place].environment for place in places])

    def run_gated(self, places: list[int], store: pathlib.Path, gate: int) -> Gated:
        """node_ranks.main up to its gate, in the background."""
        return Gated(self, places, store, gate)

    def clean(self) -> None:
        super().clean()
        shutil.rmtree(self.memory, ignore_errors=True)


@pytest.fixture
def idle_pair(built: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, built, 2)
    yield cluster
    cluster.clean()


@pytest.fixture
def pair(idle_pair: Cluster) -> Cluster:
    for i in range(2):
        idle_pair.start(i)
    return idle_pair


def test_ranks_of_two_nodes_restart_together(pair: Cluster, tmp_path: pathlib.Path) -> None:
    died = pair.run(ranks.main, [0, 1], tmp_path / "first", 5, 1, "die")
    assert [code for code, _ in died] == [-9, -9], died
    again = pair.run(ranks.main, [0, 1], tmp_path / "second", 5, 50, "end")
    assert [code for code, _ in again] == [0, 0], again
    assert lines(again, "restored") == ["restored 5"] * 2
    assert lines(again, "digest") == lines(died, "digest")
    for node in pair.nodes:
        job = node.job()
        assert job is not None and job["incarnation"] == 2 and job["world_size"] == 2
        assert {s["state"] for s in node.snapshots() if s["step"] == 5} == {"complete"}


def test_four_ranks_on_two_nodes(pair: Cluster, tmp_path: pathlib.Path) -> None:
    """Ranks of one node need not have neighbouring numbers."""
    places = [1, 0, 1, 0]
    died = pair.run(ranks.main, places, tmp_path / "first", 3, 1, "die")
    assert [code for code, _ in died] == [-9] * 4, died
    again = pair.run(ranks.main, places, tmp_path / "second", 3, 50, "end")
    assert lines(again, "restored") == ["restored 3"] * 4
    assert lines(again, "digest") == lines(died, "digest")


@pytest.mark.parametrize("which", [0, 1], ids=["of the coordinator", "of a member"])
def test_a_daemon_that_dies_between_two_snapshots_stops_nothing(
    pair: Cluster, tmp_path: pathlib.Path, which: int
) -> None:
    """I1, I3, L: training goes on meanwhile, and what is complete afterwards comes back."""
    training = pair.run_gated([0, 1], tmp_path / "first", 4)
    training.arrived()
    pair.nodes[which].kill()
    training.go_on()
    pair.start(which)
    trained = training.end()
    shown = pair.run(node_ranks.show, [0, 1], tmp_path / "second", 77)
    assert [code for code, _ in shown] == [0, 0], shown
    for (_, before), (_, after) in zip(trained, shown):
        digest = after.strip().splitlines()[-1]
        assert re.match(r"digest \d+ ", digest) and digest in before.splitlines(), (after, before)
        assert int(digest.split()[1]) > 4


@pytest.mark.parametrize("failpoint", ["peer.before_send", "peer.before_answer"])
@pytest.mark.parametrize("which", [0, 1], ids=["of the coordinator", "of a member"])
def test_a_daemon_that_dies_with_a_message_stops_nothing(
    idle_pair: Cluster, tmp_path: pathlib.Path, which: int, failpoint: str
) -> None:
    """I11, L: with each of the first messages of a start; a supervisor brings it back."""
    for i in range(2):
        idle_pair.start(i, f"{failpoint}=kill@3" if i == which else "")
    idle_pair.nodes[which].supervise()
    try:
        died = idle_pair.run(ranks.main, [0, 1], tmp_path / "first", 5, 1, "die")
        assert [code for code, _ in died] == [-9, -9], died
        restarted = idle_pair.nodes[which]
        wait_for("the new daemon's answer", lambda: restarted.restarts == 1 or None)
    finally:
        idle_pair.nodes[which].unsupervise()
    again = idle_pair.run(ranks.main, [0, 1], tmp_path / "second", 5, 50, "end")
    assert lines(again, "restored") == ["restored 5"] * 2
    assert lines(again, "digest") == lines(died, "digest")


def test_daemons_know_each_other_by_certificates(
    idle_pair: Cluster, tmp_path: pathlib.Path
) -> None:
    """The two commands of docs/operations.md, and a node with a certificate of another cluster."""
    folder = tmp_path / "certs"
    for i in range(2):  # once without peers, for the uuid that goes into the certificate
        node = idle_pair.nodes[i]
        node.start()
        uuid = node.json("status")["daemon"]["node_uuid"]
        node.stop()
        for authority in (folder, tmp_path / "other"):
            if i == 0:
                assert node.cli("certs", "init", str(authority)).returncode == 0
            issued = node.json("certs", "issue", str(authority), "--node", uuid)
            files = f'certificate = "{issued["certificate"]}"\nkey = "{issued["key"]}"\n'
            (authority / f"{i}.toml").write_text(f'authority = "{authority}/ca.crt"\n{files}')
    for i in range(2):
        idle_pair.start(i, more=(folder / f"{i}.toml").read_text())
    died = idle_pair.run(ranks.main, [0, 1], tmp_path / "first", 2, 1, "die")
    assert [code for code, _ in died] == [-9, -9], died
    peers = idle_pair.nodes[0].json("status")["daemon"]["peers"]
    assert [(p["connected"], p["authenticated"]) for p in peers] == [(True, True)]

    idle_pair.nodes[1].stop()
    idle_pair.start(1, more=(tmp_path / "other" / "1.toml").read_text())
    stranger = idle_pair.run(ranks.main, [0, 1], tmp_path / "second", 3, 50, "end")
    assert [code for code, _ in stranger] == [1, 1], stranger
    assert "is silent" in stranger[0][1] or "did not answer" in stranger[0][1], stranger
    assert not idle_pair.nodes[0].json("status")["daemon"]["peers"][0]["connected"]


def test_daemons_without_peers_cannot_share_a_job(
    idle_pair: Cluster, tmp_path: pathlib.Path
) -> None:
    for node in idle_pair.nodes:
        node.start()
    refused = idle_pair.run(ranks.main, [0, 1], tmp_path / "first", 2, 1, "end")
    assert [code for code, _ in refused] == [1, 1], refused
    for _, output in refused:
        assert "the job has 2 nodes" in output and "peer.listen" in output, output


@pytest.fixture
def guarded(built: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Cluster]:
    """Four nodes that protect each other with 2+2."""
    cluster = Cluster(tmp_path, built, 4)
    for i in range(4):
        cluster.start(i, more=CODING)
    yield cluster
    cluster.clean()


def ask(node: Node, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit and JSON of the program, also where not every node answered."""
    result = node.cli(*arguments, "--json")
    document = json.loads(result.stdout)
    assert isinstance(document, dict) and "error" not in document, result.stdout
    return result.returncode, document


def story(node: Node) -> dict[str, Any]:
    """What the cluster looks like from there, without what moves by itself."""
    _, status = ask(node, "status", "--cluster", "--timeout", "3")
    _, listing = ask(node, "ls", "--cluster", "--timeout", "3")
    return {
        "nodes": [(n["node_uuid"], n["answered"]) for n in status["nodes"]],
        "jobs": [
            {key: job[key] for key in ("name", "incarnation", "decider", "groups", "protected",
                                       "newest_complete", "missing_ranks")}
            | {"ranks": [(r["rank"], r["node"]) for r in job["ranks"]]}
            for job in status["jobs"]
        ],
        "snapshots": listing["snapshots"],
    }


def of_step(snapshots: list[dict[str, Any]], step: int) -> dict[str, Any]:
    (found,) = [s for s in snapshots if s["step"] == step]
    return found


def settled(nodes: list[Node]) -> dict[str, Any] | None:
    """The one story of all of them, once all that is complete is protected and nothing is missing."""
    stories = [story(node) for node in nodes]
    jobs = stories[0]["jobs"]
    if len(jobs) != 1 or not jobs[0]["protected"]:
        return None
    newest = jobs[0]["newest_complete"]
    over = jobs[0]["protected"] == newest and all(s == stories[0] for s in stories)
    whole = over and of_step(stories[0]["snapshots"], newest["step"])["margin_seen"] == 2
    return stories[0] if whole else None


def test_all_nodes_are_seen_from_any(guarded: Cluster, tmp_path: pathlib.Path) -> None:
    """From each node the same story: who holds what, and how many may still be lost.  One that is
    killed is named by all others, with what it held and what brings it back."""
    training = guarded.run_gated([0, 1, 2, 3], tmp_path / "first", GATE)
    training.arrived()
    seen = wait_for("one story", lambda: settled(guarded.nodes))
    uuids = [node.json("status")["daemon"]["node_uuid"] for node in guarded.nodes]
    assert seen["nodes"] == [(uuid, True) for uuid in sorted(uuids)]
    (job,) = seen["jobs"]
    assert job["decider"] == uuids[0] and job["ranks"] == list(enumerate(uuids))
    assert sorted(job["groups"][0]["nodes"]) == sorted(uuids)
    step = job["protected"]["step"]
    newest = of_step(seen["snapshots"], step)
    assert newest["margin"] == newest["margin_seen"] == 2
    assert [(s["rank"], s["node"], s["state"]) for s in newest["shards"]] == [
        (rank, uuid, "sealed") for rank, uuid in enumerate(uuids)
    ]
    (code_set,) = newest["sets"]
    assert code_set["available_of_stripe"] == [4] * 4
    shown = guarded.nodes[2].cli("show", "pair", "newest", "--cluster")
    assert shown.returncode == 0 and "group 2+2" in shown.stdout, shown

    guarded.nodes[3].kill()
    for node in guarded.nodes[:3]:
        exit_code, status = ask(node, "status", "--cluster", "--timeout", "3")
        assert exit_code == INCOMPLETE
        silent = {n["node_uuid"]: n["error"]["code"] for n in status["nodes"] if not n["answered"]}
        assert silent == {uuids[3]: "unavailable"}
        assert status["jobs"][0]["missing_ranks"] == [3]
        _, listing = ask(node, "ls", "--cluster", "--timeout", "3")
        newest = of_step(listing["snapshots"], step)
        assert newest["margin_seen"] == 1 and newest["lost_ranks"] == []
        assert newest["missing"] == [{"rank": 3, "last_seen": uuids[3]}]
        text = node.cli("status", "--cluster", "--timeout", "3").stdout
        assert f"{uuids[3][:12]} (unreachable)" in text, text
    guarded.start(3, more=CODING)
    training.go_on()
    training.end()


def test_rot_is_found_where_it_lies(guarded: Cluster, tmp_path: pathlib.Path) -> None:
    """I5: in a row of parity and in a shard, from another node; the row is made again, the shard is
    never used again, and a restore has all bits."""
    training = guarded.run_gated([0, 1, 2, 3], tmp_path / "first", GATE)
    training.arrived()
    wait_for("protection", lambda: settled(guarded.nodes))
    uuids = [node.json("status")["daemon"]["node_uuid"] for node in guarded.nodes]
    exit_code, found = ask(guarded.nodes[3], "verify", "--peers")
    assert exit_code == 0 and found["ok"], found
    held = {(h["node"], h["kind"]) for h in found["held"]}
    assert held == {(uuid, kind) for uuid in uuids for kind in ("dynamic", "row")}
    assert found["bytes"] == sum(h["bytes"] for h in found["held"]) > 8 * 2**20

    assert any([flip(p, image=False) for p in (guarded.nodes[2].arena / "slots").iterdir()])
    exit_code, found = ask(guarded.nodes[3], "verify", "pair", "--peers")
    bad = [h for h in found["held"] if not h["ok"]]
    assert exit_code == BAD and bad, found
    assert {(h["node"], h["kind"], tuple(h["bad_chunks"])) for h in bad} == {(uuids[2], "row", (0,))}
    assert "slot.poisoned" in guarded.nodes[2].log.read_text()
    wait_for("the row, made again", lambda: settled(guarded.nodes))
    exit_code, found = ask(guarded.nodes[0], "verify", "--peers")
    assert exit_code == 0, found

    assert any([flip(p, image=True) for p in (guarded.nodes[1].arena / "slots").iterdir()])
    result = guarded.nodes[0].cli("verify", "--peers")
    assert result.returncode == BAD, result
    assert re.search(rf"BAD pair \S+ rank 1 at node {uuids[1][:12]}: chunk \d+", result.stdout)
    exit_code, found = ask(guarded.nodes[0], "verify", "--peers")
    assert exit_code == BAD and {h["node"] for h in found["held"] if not h["ok"]} == {uuids[1]}
    states = {s["state"] for shot in guarded.nodes[1].snapshots() for s in shot["shards"]}
    assert "poisoned" in states
    training.go_on()
    training.end()


def flip(path: pathlib.Path, image: bool) -> bool:
    """One bit: in the middle of an image, or early in a slot without one."""
    with open(path, "r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if (0 < length < 1_000_000 and file.read(1) == b"{") != image:
            return False
        at = path.stat().st_size // 2 if image else 4096
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    return True
