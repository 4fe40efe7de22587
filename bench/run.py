#!/usr/bin/env python3
"""Measures Holdfast against what the machine can do at most, and shows one table.

Every figure stands beside its ceiling of the same run: the two are taken in turns, and medians and
ratios are shown.  Results also go to bench/out/results.json.  README.md says what each row means.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import signal
import sys
import time

import report
from programs import ROOT, BenchError, Folders, build
from peer_works import nodes_iteration, protect, rebuild
from works import MIB, Bench
from works import WORKS as ALONE

WORKS = ALONE | {"protect": protect, "rebuild": rebuild, "nodes_iteration": nodes_iteration}
RESULTS = ROOT / "bench" / "out" / "results.json"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=WORKS, action="append", help="this work; repeatable")
    parser.add_argument("--rounds", type=int, default=7, help="figures of each kind (7; at most 5 where several nodes share this machine)")
    parser.add_argument("--quick", action="store_true",
                        help="small and few: to see that everything runs, not to judge by")
    parser.add_argument("--peer-mib", type=int, default=Bench.peer_bytes // MIB,
                        help="MiB of one rank's state where several nodes share this machine (512)")
    parser.add_argument("--disk", type=pathlib.Path, default=pathlib.Path("/var/tmp"),
                        help="a folder on the disk to measure (/var/tmp)")
    return parser.parse_args()  # fmt: skip


def measure(bench: Bench, names: list[str]) -> tuple[list[report.Row], bool]:
    """The rows, and whether every work could be measured.  One that cannot does not stop the
    others."""
    rows: list[report.Row] = []
    complete = True
    for name in names:
        began = time.monotonic()
        print(f"{name} ...", end=" ", flush=True)
        try:
            rows += WORKS[name](bench)
            print(f"{time.monotonic() - began:.0f} s", flush=True)
        except (BenchError, OSError) as error:
            complete = False
            rows.append(report.Row(name, "", reach="not measured", ok=False, note=str(error)))
            print(f"could not be measured: {error}", flush=True)
    return rows, complete


def main() -> int:
    options = arguments()
    if options.rounds < 1:
        raise SystemExit("--rounds must be at least 1")
    # Asked to end, it still ends the daemon and removes its folders.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()
    binaries = build()
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    print(f"{os.cpu_count()} processors; load before the run: {load}", flush=True)
    folders = Folders(options.disk)
    print(folders.note, flush=True)
    bench = Bench(binaries, folders, rounds=options.rounds, peer_bytes=options.peer_mib * MIB,
                  peer_rounds=min(options.rounds, Bench.peer_rounds))  # fmt: skip
    if options.quick:
        bench = dataclasses.replace(
            bench, rounds=min(3, options.rounds), state_bytes=256 * MIB, requests=200,
            registered=10_000, soak_rounds=5, soak_bytes=32 * MIB, nodes=(4, 16, 64),
            peer_bytes=64 * MIB, peer_rounds=min(3, options.rounds),
        )  # fmt: skip
    try:
        rows, complete = measure(bench, options.only or list(WORKS))
    finally:
        folders.remove()
    report.write(rows, RESULTS)
    print(f"\n{report.table(rows)}\n")
    missed = sum(row.ok is False for row in rows)
    judged = sum(row.ok is not None for row in rows)
    print(f"{judged - missed} of {judged} reached ({time.monotonic() - began:.0f} s); "
          f"{RESULTS.relative_to(ROOT)}")
    # A figure that is missed is a finding to look at, not a failure of the run.
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
