"""What is measured of nodes that protect each other; works.py has the rest, README.md says why each
is as it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from peer_nodes import Nodes
from programs import BenchError, Program
from report import Reach, Row, alone, compared, median
from works import BLOCK, GIB, MIB, Bench, speed

DEPTH = 8  # ReadOptions::depth
AT_ONCE = "spread_percent = 0\n"
CHUNK = MIB  # rows are whole chunks


class Bare:
    """What the machine does with the same bytes without us."""

    def __init__(self, bench: Bench, code: tuple[int, int] | None) -> None:
        self._read = Program(
            [bench.program("fabric_bench"), "tcp;ofi_rxm", "127.0.1.1", "127.0.1.2",
             *map(str, (bench.peer_bytes, BLOCK, DEPTH))]
        )  # fmt: skip
        self._code = None
        if code is not None:
            segment = bench.peer_bytes // code[0] // MIB * MIB
            self._code = Program([bench.program("code_bench"), *map(str, (*code, segment, MIB))])

    def __enter__(self) -> "Bare":
        self._read.__enter__()
        if self._code is not None:
            self._code.__enter__()
        return self

    def __exit__(self, *why: object) -> None:
        self._read.__exit__(None, None, None)
        if self._code is not None:
            self._code.__exit__(None, None, None)

    def seconds(self, read: float, coded: float, way: str) -> float:
        """Of reading so many bytes, the faster of its two ways, and then of coding so many."""
        reads = read / 1e9 / max(speed(self._read, "bare")(), speed(self._read, "spin")())
        if self._code is None:
            return reads
        return reads + coded / 1e9 / speed(self._code, f"{way} 2")()


class Snapshots:
    """Takes one after the other, and has each protected."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.step = 0
        self.most_arena = 0.0

    def one(self) -> float:
        """Seconds from complete to protected, at the coordinator."""
        self.step += 1
        self._nodes.ask(f"snapshot {self.step}")
        complete = self._nodes.wait_until(
            "complete",
            lambda: self._nodes.metric(0, "holdfast_complete_step", "peers") >= self.step,
        )
        return self._nodes.wait_until("protection", self._is_protected) - complete

    def _is_protected(self) -> bool:
        used = self._nodes.metric(0, "holdfast_arena_bytes", "used")
        self.most_arena = max(self.most_arena, used)
        return self._nodes.is_protected(self.step)


def bytes_read(nodes: Nodes) -> float:
    return nodes.total("holdfast_peer_read_bytes_total", "fabric") + nodes.total(
        "holdfast_peer_read_bytes_total", "connection"
    )


def _turns(rounds: int, ours: Callable[[], float], bare: Callable[[], float]) -> tuple[list[float], list[float]]:
    """The first of each is thrown away."""
    taken = [(ours(), bare()) for _ in range(1 + rounds)][1:]
    return [a for a, _ in taken], [b for _, b in taken]


def protect(bench: Bench) -> list[Row]:
    rows = []
    for world, code, what in ((2, (1, 1), "mirror of two"), (3, (2, 1), "2+1")):
        rows += _protect(bench, world, code, what)
    return rows


def _protect(bench: Bench, world: int, code: tuple[int, int], what: str) -> list[Row]:
    data, parity = code
    size = bench.peer_bytes
    budget = f"{6 * size // MIB + 64}MiB"
    moved = world * size * (data + parity - 1) / data
    with Nodes(bench.binaries, bench.folders, world, code, str(size), budget, AT_ONCE) as nodes:
        nodes.ask("restore 0")
        snapshots = Snapshots(nodes)
        wire = []

        def one() -> float:
            before = bytes_read(nodes)
            seconds = snapshots.one()
            wire.append((bytes_read(nodes) - before) / moved)
            return seconds

        with Bare(bench, code if data > 1 else None) as bare:
            ours, ceiling = _turns(bench.rounds, one, lambda: bare.seconds(moved, world * size, "isal"))
        image = size + CHUNK  # with its header
        row = -(-image // data // CHUNK) * CHUNK
        rest = nodes.metric(0, "holdfast_arena_bytes", "used")
    bill = 3 * image + 2 * parity * row
    return [
        compared(
            f"protect, {what}, {size / GIB:.3g} GiB a node", "GB/s",
            [moved / s / 1e9 for s in ours], [moved / s / 1e9 for s in ceiling],
            Reach("ratio", least=0.85),
            "bytes over the wire; ceiling: bare fi_read of them"
            + (", then bare encode" if data > 1 else ""),
        ),
        alone(f"  bytes over the wire, {what}", "x", median(wire), Reach("ours", most=1.01),
              f"of {moved / world / MIB:.0f} MiB for each node"),
        alone(f"  arena at the peak, {what}", "x", snapshots.most_arena / bill,
              Reach("ours", most=1.01), f"of 3 S + 2 m L = {bill / MIB:.0f} MiB; at rest "
              f"{rest / MIB:.0f} MiB"),
    ]  # fmt: skip


def rebuild(bench: Bench) -> list[Row]:
    size = bench.peer_bytes
    world, code = 3, (2, 1)
    budget = f"{6 * size // MIB + 64}MiB"
    lost = world - 1
    with Nodes(bench.binaries, bench.folders, world, code, str(size), budget, AT_ONCE) as nodes:
        nodes.ask("restore 0")
        snapshots = Snapshots(nodes)
        snapshots.one()

        def one() -> float:
            nodes.replace(lost)
            nodes.restart_ranks()
            nodes.ask(f"restore {snapshots.step}")
            if nodes.metric(lost, "holdfast_shards_brought_total") != 1:
                raise BenchError("the lost shard was not brought, or more than once")
            seconds = nodes.metric(lost, "holdfast_shards_brought_seconds_total")
            nodes.wait_until("repair", lambda: nodes.is_protected(snapshots.step))
            return seconds

        with Bare(bench, code) as bare:
            # k segments are read for each of k that are decoded.
            ours, ceiling = _turns(
                bench.rounds, one, lambda: bare.seconds(code[0] * size, code[0] * size, "isal_decode")
            )
    return [
        compared(f"rebuild of a lost shard, 2+1, {size / GIB:.3g} GiB", "GB/s",
                 [size / s / 1e9 for s in ours], [size / s / 1e9 for s in ceiling],
                 Reach("ratio", least=0.8),
                 "bytes of the shard; ceiling: bare fi_read of the k segments for each of its own, "
                 "then bare decode"),
    ]  # fmt: skip


def nodes_iteration(bench: Bench) -> list[Row]:
    rows = []
    for size, steps in (("small", 40), ("medium", 4)):
        with Nodes(bench.binaries, bench.folders, 4, (2, 2), size, "1GiB") as nodes:
            rows += _iterations(bench, nodes, size, steps)
    return rows


def _iterations(bench: Bench, nodes: Nodes, size: str, steps: int) -> list[Row]:
    skipped = 0.0

    def plain() -> float:
        return max(seconds for seconds, _, _ in nodes.ask(f"plain {steps}"))

    def ours() -> float:
        nonlocal skipped
        began = time.perf_counter()
        answers = nodes.ask(f"holdfast {steps}")
        last = int(answers[0][1])
        skipped += max(lost for _, _, lost in answers)
        ended = nodes.wait_until("protection", lambda: nodes.is_protected(last))
        return (ended - began) / steps

    before = bytes_read(nodes)
    taken, without = _turns(bench.rounds, ours, plain)
    a_step = (bytes_read(nodes) - before) / steps / (1 + bench.rounds) / 4
    row = compared(
        f"iteration at 4 nodes ({size}), 2+2, protected every step", "ms",
        [1e3 * s for s in taken], [1e3 * s for s in without], Reach("ratio", most=1.10),
        f"ceiling: without; {skipped:.0f} snapshots skipped; {a_step / MIB:.1f} MiB a node and step",
    )  # fmt: skip
    if skipped:
        row.ok = False  # what was not done cost nothing
    return [row]
