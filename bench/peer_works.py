"""What is measured of nodes that protect each other; works.py has the rest, README.md says why each
is as it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from peer_nodes import TCP, Nodes
from programs import Program
from report import Reach, Row, alone, compared
from works import BLOCK, GIB, MIB, Bench, speed

DEPTH = 8  # ReadOptions::depth
AT_ONCE = "spread_percent = 0\n"
CHUNK = MIB  # rows are whole chunks


class Bare:
    """What the machine does with the same bytes without us, as many readers at once as we have."""

    def __init__(self, bench: Bench, readers: int, code: tuple[int, int] | None) -> None:
        self._reads = [
            Program(
                [bench.program("fabric_bench"), TCP,
                 f"127.0.1.{2 * i + 1}", f"127.0.1.{2 * i + 2}",
                 *map(str, (bench.peer_bytes, BLOCK, DEPTH))]
            ) for i in range(readers)
        ]  # fmt: skip
        self._code = None
        if code is not None:
            segment = bench.peer_bytes // code[0] // MIB * MIB
            self._code = Program([bench.program("code_bench"), *map(str, (*code, segment, MIB))])

    def __enter__(self) -> "Bare":
        for read in self._reads:
            read.__enter__()
        if self._code is not None:
            self._code.__enter__()
        return self

    def __exit__(self, *why: object) -> None:
        for read in self._reads:
            read.__exit__(None, None, None)
        if self._code is not None:
            self._code.__exit__(None, None, None)

    def seconds(self, read: float, coded: float, way: str) -> float:
        """Of reading so many bytes, the faster of its two ways, and then of coding so many."""
        reads = read / 1e9 / max(self._speed("bare"), self._speed("spin"))
        if self._code is None:
            return reads
        return reads + coded / 1e9 / speed(self._code, f"{way} 2")()

    def _speed(self, way: str) -> float:
        """GB/s of all readers together."""
        answers = Program.ask_all(self._reads, way)
        return sum(size for _, size in answers) / max(taken for taken, _ in answers) / 1e9


class Snapshots:
    """Takes one after the other, and has each protected."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.step = 0

    def one(self) -> float:
        """Seconds from complete to protected, at the coordinator."""
        self.step += 1
        watch = self._nodes.watch
        watch.tell(f"complete {self.step}")
        self._nodes.ask(f"snapshot {self.step}")
        complete, = watch.numbers()
        protected, = watch.ask(f"protected {self.step}")
        return protected - complete


def bytes_read(nodes: Nodes) -> float:
    fabric, connection = (
        nodes.settled("holdfast_peer_read_bytes_total", way) for way in ("fabric", "connection")
    )
    return fabric + connection


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
        with Bare(bench, world, code if data > 1 else None) as bare:
            ours, ceiling = _turns(
                bench.peer_rounds, snapshots.one, lambda: bare.seconds(moved, world * size, "isal")
            )
        wire = bytes_read(nodes) / snapshots.step / moved
        # It only grows: a slot or a row that is free waits for the next.
        image = size + CHUNK  # with its header
        row = -(-image // data // CHUNK) * CHUNK
        used = nodes.metric(0, "holdfast_arena_bytes", "used")
    bill = 3 * image + 2 * parity * row
    return [
        compared(
            f"protect, {what}, {size / GIB:.3g} GiB a node", "GB/s",
            [moved / s / 1e9 for s in ours], [moved / s / 1e9 for s in ceiling],
            Reach("ratio", least=0.85),
            "bytes over the wire; ceiling: bare fi_read of them"
            + (", then bare encode" if data > 1 else ""),
        ),
        alone(f"  bytes over the wire, {what}", "x", wire, Reach("ours", most=1.01),
              f"of {moved / world / MIB:.0f} MiB for each node"),
        alone(f"  arena at the peak, {what}", "x", used / bill,
              Reach("ours", most=1.0), f"of 3 S + 2 m L = {bill / MIB:.0f} MiB"),
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
            nodes.wait_for(
                "the rebuild of the lost shard",
                lambda: nodes.metric(lost, "holdfast_shards_brought_total") == 1,
            )
            nodes.watch.ask(f"protected {snapshots.step}")
            return nodes.metric(lost, "holdfast_shards_brought_seconds_total")

        with Bare(bench, 1, code) as bare:
            # k segments are read for each of k that are decoded.
            ours, ceiling = _turns(
                bench.peer_rounds, one, lambda: bare.seconds(code[0] * size, code[0] * size, "isal_decode")
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
    for size, steps in (("small", 10), ("medium", 3)):
        with Nodes(bench.binaries, bench.folders, 4, (2, 2), size, "1GiB") as nodes:
            rows += _iterations(bench, nodes, size, steps)
    return rows


def _iterations(bench: Bench, nodes: Nodes, size: str, steps: int) -> list[Row]:
    skipped: list[float] = []

    def plain() -> float:
        return max(seconds for seconds, _, _ in nodes.ask(f"plain {steps}"))

    def ours() -> float:
        began = time.perf_counter()
        answers = nodes.ask(f"holdfast {steps}")
        last = int(answers[0][1])
        skipped.append(max(lost for _, _, lost in answers))
        ended, = nodes.watch.ask(f"protected {last}")
        return (ended - began) / steps

    before = bytes_read(nodes)
    taken, without = _turns(bench.peer_rounds, ours, plain)
    a_step = (bytes_read(nodes) - before) / steps / (1 + bench.peer_rounds)
    with Bare(bench, 4, None) as bare:
        reads = [bare.seconds(a_step, 0, "") for _ in range(1 + bench.peer_rounds)][1:]
    lost = sum(skipped[1:])  # in the first round slots are made
    row = compared(
        f"iteration at 4 nodes ({size}), 2+2, protected every step", "ms",
        [1e3 * s for s in taken], [1e3 * s for s in without], Reach("ratio", most=1.10),
        f"ceiling: without; {lost:.0f} snapshots skipped; {a_step / 4 / MIB:.1f} MiB a node and step",
    )  # fmt: skip
    if lost:
        row.ok = False  # what was not done cost nothing
    # Where ranks fill all processors, no way of protecting over this provider is faster.
    floor = compared(
        f"  bare fi_read of its bytes after each ({size})", "ms",
        [1e3 * (a + b) for a, b in zip(without, reads)], [1e3 * s for s in without], None,
        "what the wire alone costs where training leaves no processor idle",
    )  # fmt: skip
    return [row, floor]
