#!/usr/bin/env python3
"""Shows what Holdfast does: kills trainers, daemons, memory and bits, and compares what comes out.

Each part trains the example (examples/train_gpt.py) with a snapshot at every step on daemons of its
own in temporary folders: two ranks on one node, in part 5 four nodes with a rank each.  It must end with the same bits as a run that nobody
disturbed: weights, optimizer state, random numbers, position in the data.  When something is killed
is decided by failpoints and by what `holdfast status --json` and `ls --json` say, never by a clock.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

import native
from node import DemoError, Node
from nodes_lost import nodes_lost
from scenes import Row, Run, Scene, bytes_flipped, daemon_killed, memory_lost, reference, trainer_killed
from training import STEPS

PARTS: dict[str, Callable[[Scene], list[Row]]] = {
    "1": trainer_killed,
    "2": daemon_killed,
    "3": memory_lost,
    "4": bytes_flipped,
    "5": nodes_lost,
}
HEAD = ("", "killed", "when", "what came back", "resumed after step", "bit-identical")


def indented(text: str) -> None:
    for line in text.rstrip().splitlines():
        print(f"    {line}", flush=True)


def compare(expected: dict[str, str], training: Run) -> list[str]:
    """Names of what differs from the undisturbed run."""
    found = training.digests()
    return sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )


def table(rows: list[Row]) -> str:
    lines = [HEAD] + [
        (r.part, r.killed, r.when, r.came_back, r.resumed, r.identical) for r in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(text)


class Demo:
    """Folders for all parts; gone when the demo is."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
        # An arena must be memory: it gets a folder of its own in the tmpfs that every Linux has.
        self.arenas = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-demo-", dir="/dev/shm"))
        package = str(native.ROOT / "client" / "python")
        path = os.environ.get("PYTHONPATH")
        self.environment = {
            **native.environment(self.folder),
            "PYTHONPATH": f"{package}:{path}" if path else package,
        }

    def play(self, name: str, part: Callable[[Scene], list[Row]]) -> list[Row]:
        folder = self.folder / name
        folder.mkdir()
        scene = Scene(folder, Node(folder, self.arenas / name, self.environment), indented)
        try:
            return part(scene)
        finally:
            scene.clean()

    def clean(self, keep: bool) -> None:
        shutil.rmtree(self.arenas, ignore_errors=True)
        if keep:
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def play_all(demo: Demo, parts: list[str]) -> int:
    print(f"reference: {STEPS} steps, two ranks, a snapshot at every step", flush=True)
    expected: dict[str, str] = {}

    def first(scene: Scene) -> list[Row]:
        expected.update(reference(scene).digests())
        return []

    demo.play("reference", first)
    rows: list[Row] = []
    failed = False
    for part in parts:
        function = PARTS[part]
        print(f"part {part}: {(function.__doc__ or '').splitlines()[0]}", flush=True)
        try:
            for row in demo.play(part, function):
                different = compare(row.expected or expected, row.training)
                row.identical = "no" if different else "yes"
                if different:
                    failed = True
                    indented(f"differs: {', '.join(different[:5])} ({len(different)} in all)")
                rows.append(row)
        except DemoError as error:
            failed = True
            indented(f"FAILED: {error}")
    print(f"\n{table(rows)}\n")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; repeatable")
    parser.add_argument("--keep", action="store_true", help="keep the folders, to look at them")
    options = parser.parse_args()
    started = time.monotonic()
    demo = Demo()
    try:
        code = play_all(demo, options.part or list(PARTS))
    finally:
        demo.clean(options.keep)
    verdict = "everything came back bit for bit" if code == 0 else "FAILED"
    print(f"{verdict} ({time.monotonic() - started:.0f} s)")
    return code


if __name__ == "__main__":
    sys.exit(main())
