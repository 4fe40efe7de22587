"""What is measured.  Each function gives rows of the table; README.md says why each is as it is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from programs import ROOT, Daemon, Folders, Program, fio
from report import Reach, Row, alone, compared, median
from scale import rows as scale_rows

MIB = 1 << 20
GIB = 1 << 30
BLOCK = 4 * MIB  # ImageIoOptions::block_bytes
DEPTH = 8  # ImageIoOptions::blocks_in_flight


@dataclasses.dataclass(frozen=True)
class Bench:
    """One run: where the programs are, and how much is measured."""

    binaries: pathlib.Path
    folders: Folders
    rounds: int = 7
    state_bytes: int = 2 * GIB
    tensors: int = 1200
    requests: int = 2000  # in each round
    registered: int = 100_000
    soak_rounds: int = 100
    soak_bytes: int = 256 * MIB
    peer_bytes: int = 512 * MIB  # of one rank, where several nodes share this machine
    peer_rounds: int = 5  # there, and where many are simulated: a round takes seconds
    nodes: Sequence[int] = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)

    def program(self, name: str) -> str:
        return str(self.binaries / "bench" / name)

    def size(self) -> str:
        return f"{self.state_bytes / GIB:.3g} GiB"


def in_turns(
    rounds: int, measures: dict[str, Callable[[], float]], warm_up: int = 1
) -> dict[str, list[float]]:
    """Figures by name, taken in turns; who begins a round changes, so that none always follows the
    same other one.  The first rounds are thrown away."""
    names = list(measures)
    found: dict[str, list[float]] = {name: [] for name in names}
    for i in range(warm_up + rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            value = measures[name]()
            if i >= warm_up:
                found[name].append(value)
    return found


def speed(program: Program, command: str) -> Callable[[], float]:
    """Measures GB/s by a command that answers seconds and bytes."""

    def measure() -> float:
        seconds, size = program.ask(command)
        return size / seconds / 1e9

    return measure


def _faster(found: dict[str, list[float]], names: Sequence[str]) -> str:
    return max(names, key=lambda name: median(found[name]))


def copies(bench: Bench) -> list[Row]:
    rows = []
    state = [str(bench.state_bytes), str(bench.tensors)]
    with Program([bench.program("copy_bench"), *state]) as program:
        for what, suffix, least in (("copy + digest into a slot", "", 0.95),
                                    ("restore from the arena, checked", "_out", 0.90)):
            ours = "restore" if suffix else "snapshot"
            plain = ["memcpy" + suffix, "stream" + suffix]
            for threads in (1, 2):
                program.ask(f"snapshot {threads}")  # digests of what is in the slot now
                found = in_turns(
                    bench.rounds,
                    {name: speed(program, f"{name} {threads}") for name in [ours, *plain]},
                )
                best = _faster(found, plain)
                other = next(name for name in plain if name != best)
                rows.append(
                    compared(
                        f"{what}, {bench.size()}, {threads} thread{'s' * (threads > 1)}",
                        "GB/s", found[ours], found[best], Reach("ratio", least=least),
                        f"ceiling: {best.removesuffix(suffix)}; "
                        f"{other.removesuffix(suffix)} {median(found[other]):.3g} GB/s",
                    )
                )  # fmt: skip
    return rows


def codes(bench: Bench) -> list[Row]:
    rows = []
    for data, parity in ((4, 1), (4, 2), (8, 2), (8, 3)):
        segment = bench.state_bytes // data // MIB * MIB
        command = [bench.program("code_bench"), *map(str, (data, parity, segment, MIB))]
        with Program(command) as program:
            works = [("encode", "isal", threads) for threads in (1, 2)]
            if (data, parity) == (8, 2):
                works.append(("decode", "isal_decode", 1))
            for ours, bare, threads in works:
                found = in_turns(
                    bench.rounds,
                    {name: speed(program, f"{name} {threads}") for name in (ours, bare)},
                )
                rows.append(
                    compared(
                        f"{ours} {data}+{parity}, {bench.size()}, "
                        f"{threads} thread{'s' * (threads > 1)}",
                        "GB/s", found[ours], found[bare], Reach("ratio", least=0.90),
                        "ceiling: bare ISA-L",
                    )
                )  # fmt: skip
    return rows


def snapshot_call(bench: Bench) -> list[Row]:
    budget = f"{2 * bench.state_bytes // MIB + 512}MiB"
    with Daemon(bench.binaries, bench.folders, "snapshot", budget) as daemon:
        command = [sys.executable, str(ROOT / "bench/snapshot_time.py"),
                   str(bench.state_bytes), str(bench.tensors)]  # fmt: skip
        with Program(command, daemon.environment) as program:
            program.ask("snapshot")
            taken = [program.ask("snapshot") for _ in range(3 * bench.rounds)]
    wall, native, copy, busy = ([1e3 * row[i] for row in taken] for i in range(4))
    return [
        alone(
            f"training thread in snapshot(), {bench.size()}, {bench.tensors} tensors",
            "ms", median(wall), Reach("ours", most=1.0, unit="ms"),
            f"processor {median(busy):.2f} ms; below the C ABI {median(native):.2f} ms; "
            f"worst {max(wall):.2f} ms; "
            f"copy behind it {median(copy):.0f} ms",
        )
    ]  # fmt: skip


def persistent_tier(bench: Bench) -> list[Row]:
    root = bench.folders.disk / "tier"
    root.mkdir()
    state = [str(bench.state_bytes), str(bench.tensors)]
    for_fio = root / "fio.dat"
    for_torch = root / "torch.pt"
    loader = [sys.executable, str(ROOT / "bench/torch_load.py"), str(for_torch), *state]
    with Program([bench.program("tier_bench"), str(root), *state]) as program:
        flushed = in_turns(
            bench.rounds,
            {
                "flush": speed(program, "flush"),
                "fio": lambda: fio(for_fio, "write", bench.state_bytes, BLOCK, DEPTH) / 1e9,
            },
        )
        with Program(loader) as torch_load:
            read = in_turns(
                bench.rounds,
                {
                    "restore": speed(program, "restore 1"),
                    "fio": lambda: fio(for_fio, "read", bench.state_bytes, BLOCK, DEPTH) / 1e9,
                    "torch": speed(torch_load, "load"),
                },
            )
    for_fio.unlink()
    for_torch.unlink()
    what = f"restore from the persistent tier, {bench.size()}"
    return [
        compared(f"flush to the persistent tier, {bench.size()}", "GB/s", flushed["flush"],
                 flushed["fio"], Reach("ratio", least=0.95), "ceiling: fio write, fsync included"),
        compared(what, "GB/s", read["restore"], read["fio"], Reach("ratio", least=0.90),
                 "ceiling: fio read"),
        compared(what, "GB/s", read["restore"], read["torch"], Reach("ratio", least=3.0),
                 "instead of a ceiling: torch.load"),
    ]  # fmt: skip


@contextlib.contextmanager
def on_one_processor() -> Iterator[None]:
    """What is started inside shares a processor.  Waking another one that idles takes a virtual
    machine several times as long as the request, and whether it does is the scheduler's mood."""
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_of_them)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def requests(bench: Bench) -> list[Row]:
    with on_one_processor(), Daemon(bench.binaries, bench.folders, "requests", "64MiB") as daemon:
        with Program([bench.program("request_bench"), str(daemon.socket)]) as program:
            tails: dict[str, list[float]] = {"ping": [], "bare": []}

            def measure(name: str) -> Callable[[], float]:
                def run() -> float:
                    half, tail = program.ask(f"{name} {bench.requests}")
                    tails[name].append(1e3 * tail)
                    return 1e6 * half

                return run

            found = in_turns(bench.rounds, {name: measure(name) for name in tails})
    return [
        compared("request round trip, p50", "us", found["ping"], found["bare"],
                 Reach("ratio", most=3.0), "ceiling: bare socket ping-pong"),
        compared("request round trip, p99", "ms", tails["ping"], tails["bare"],
                 Reach("ours", most=1.0, unit="ms")),
    ]  # fmt: skip


def registration(bench: Bench) -> list[Row]:
    with Daemon(bench.binaries, bench.folders, "registration", "1GiB") as daemon:
        command = [bench.program("registration_bench"), str(daemon.socket), str(daemon.arena),
                   str(bench.registered)]  # fmt: skip
        with Program(command) as program:
            found = in_turns(
                bench.rounds,
                {
                    "register": lambda: program.ask("register")[0],
                    "header": lambda: program.ask("header")[0],
                },
                warm_up=0,
            )
    reach = Reach("ours", most=1.0, unit="s")
    count = f"{bench.registered:,} tensors"
    return [
        alone(f"registration of {count}", "s", median(found["register"]), reach),
        alone(f"reading the header of {count}", "s", median(found["header"]), reach),
    ]


def _measure_soak(daemon: Daemon, program: Program, rounds: int) -> tuple[list[float], float]:
    """The peak in MiB of each round, and the median of a round's seconds."""
    peaks: list[float] = []
    seconds: list[float] = []
    for _ in range(rounds):
        peak = [0.0]
        done = threading.Event()

        def watch() -> None:
            while True:
                peak[0] = max(peak[0], daemon.memory_bytes() / MIB)
                if done.wait(0.01):
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            seconds.append(program.ask("round")[0])
        finally:
            done.set()
            watcher.join()
        peaks.append(peak[0])
    return peaks, median(seconds)


def soak(bench: Bench) -> list[Row]:
    ranks = 8
    budget = f"{2 * ranks * bench.soak_bytes // MIB + 512}MiB"
    with Daemon(bench.binaries, bench.folders, "soak", budget) as daemon:
        command = [bench.program("soak_bench"), str(daemon.socket), str(daemon.root), str(ranks),
                   str(bench.soak_bytes), "400"]  # fmt: skip
        with Program(command) as program:
            peaks, seconds = _measure_soak(daemon, program, bench.soak_rounds)
    fifth = max(1, bench.soak_rounds // 5)
    growth = median(peaks[-fifth:]) - median(peaks[fifth : 2 * fifth])
    what = f"daemon outside the arena, {ranks} ranks x {bench.soak_bytes // MIB} MiB"
    return [
        alone(f"{what}, {bench.soak_rounds} times, peak", "MiB", max(peaks),
              Reach("ours", most=128, unit="MiB"), f"{seconds:.2f} s a round"),
        alone(f"{what}, growth", "MiB", growth, Reach("ours", most=4, unit="MiB"),
              "median peak of the last fifth less that of the second fifth"),
    ]  # fmt: skip


def iteration(bench: Bench) -> list[Row]:
    rows = []
    for size, steps in (("small", 10), ("medium", 1)):
        with Daemon(bench.binaries, bench.folders, f"iteration-{size}", "1GiB") as daemon:
            folder = daemon.folder / "peers"
            command = [sys.executable, str(ROOT / "bench/iteration.py"), size, str(folder)]
            with Program(command, daemon.environment) as program:
                rows += _iterations(bench, program, size, steps)
    return rows


def _iterations(bench: Bench, program: Program, size: str, steps: int) -> list[Row]:
    skipped = [0.0]

    def measure(name: str) -> Callable[[], float]:
        def run() -> float:
            seconds, lost = program.ask(f"{name} {steps}")
            skipped[0] += lost
            return 1e3 * seconds

        return run

    peers = ["torch_save", "dcp_save", "dcp_async"]
    found = in_turns(bench.rounds, {name: measure(name) for name in ["plain", "holdfast", *peers]})
    what = f"iteration of the example ({size}), snapshot every step"
    rows = [
        compared(what, "ms", found["holdfast"], found["plain"], Reach("ratio", most=1.05),
                 f"ceiling: without; {skipped[0]:.0f} snapshots skipped"),
    ]  # fmt: skip
    if skipped[0]:
        rows[0].ok = False  # what was not done cost nothing
    for name in peers:
        rows.append(
            compared(f"  beside it: {name} every step", "ms", found[name], found["plain"], None,
                     "ours is that way's figure")
        )  # fmt: skip
    return rows


def fabric(bench: Bench) -> list[Row]:
    depth = 8  # ReadOptions::depth
    command = [bench.program("fabric_bench"), "tcp;ofi_rxm", "127.0.1.1", "127.0.1.2",
               *map(str, (bench.state_bytes, BLOCK, depth))]  # fmt: skip
    with Program(command) as program:
        found = in_turns(
            bench.rounds, {name: speed(program, name) for name in ("read", "bare", "spin")}
        )
    best = _faster(found, ["bare", "spin"])
    return [
        compared(
            f"read from a peer, tcp;ofi_rxm, {bench.size()}", "GB/s", found["read"], found[best],
            Reach("ratio", least=0.85),
            f"ceiling: bare fi_read, {BLOCK // MIB} MiB x {depth}, "
            + ("asleep between completions" if best == "bare" else "spinning"),
        )
    ]  # fmt: skip


def coordinator(bench: Bench) -> list[Row]:
    return scale_rows(bench.program("coordinator_bench"), bench.nodes, bench.peer_rounds)


WORKS: dict[str, Callable[[Bench], list[Row]]] = {
    "copies": copies,
    "codes": codes,
    "snapshot": snapshot_call,
    "tier": persistent_tier,
    "fabric": fabric,
    "requests": requests,
    "registration": registration,
    "iteration": iteration,
    "soak": soak,
    "coordinator": coordinator,
}
