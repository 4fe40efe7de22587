#!/usr/bin/env python3
"""Measures Holdfast on a machine with one or two GPUs against what it can do at most, and shows one
table.  README.md says what each row means.

    python3 bench/gpu/run.py --wheel dist/holdfast-*.whl --out DIR

Needs nothing but torch.  Results that are there when it is cut off stay in DIR.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import report  # noqa: E402
from report import Row  # noqa: E402

import install  # noqa: E402
import machine  # noqa: E402
import plot  # noqa: E402
from node import Daemon, DaemonError  # noqa: E402
from settings import GB, MIB, Settings, failed, skipped  # noqa: E402


TINY_ARENA = 512 * MIB


@dataclasses.dataclass(frozen=True)
class Program:
    """A stage: a program with its works, its longest time, and the memory that it needs."""

    file: str
    works: tuple[str, ...]
    seconds: float
    arena: int = 0  # bytes; 0: no daemon
    memory: int = 0  # bytes of /dev/shm beside the arena
    gpus: int = 0  # that it needs


PROGRAMS = [
    Program("environment.py", ("environment",), 60),
    Program("digests.py", ("digests",), 60, memory=7 * GB),
    Program("gpt.py",
            ("iteration", "flush", "fast", "copy", "trace", "restore", "verify"), 330,
            arena=53 * GB, memory=22 * GB),
    Program("peers.py", ("peers",), 170, memory=45 * GB),
    Program("gpus.py", ("gpus",), 240, arena=125 * GB, gpus=2),
    Program("torn.py", ("torn", "calm"), 110, arena=20 * GB),
    Program("kill.py", ("kill",), 110, arena=16 * GB),
    Program("sanitize.py", ("sanitize",), 150, arena=TINY_ARENA),
    Program("inside.py", ("inside",), 240, arena=42 * GB, memory=12 * GB),
]  # fmt: skip
WORKS = [work for program in PROGRAMS for work in program.works]
UNASKED = [work for work in WORKS if work != "inside"]  # without --only
LEAST_SECONDS = 15.0  # for a stage to be worth starting


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--wheel", type=pathlib.Path, help="of Holdfast, to be measured")
    parser.add_argument("--native", type=pathlib.Path,
                        help="instead of a wheel: output folder of a build (bazel-bin)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the results")
    parser.add_argument("--only", help=f"these works, with commas: {', '.join(WORKS)}")
    parser.add_argument("--tiny", action="store_true",
                        help="small and few: to see that everything runs, not to judge by")
    parser.add_argument("--budget", type=float, default=3600.0,
                        help="seconds after which nothing new is started")
    parser.add_argument("--device", choices=("cuda", "sim", "cpu"), default="cuda",
                        help="a dry run without a GPU, always tiny: sim on the simulated runtime of "
                        "the tests, cpu with the engine for host memory")
    options = parser.parse_args()
    options.names = options.only.split(",") if options.only else UNASKED
    unknown = sorted(set(options.names) - set(WORKS))
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}")
    options.tiny = options.tiny or options.device != "cuda"
    return options  # fmt: skip


class Run:
    def __init__(self, options: argparse.Namespace, scratch: pathlib.Path) -> None:
        self.options = options
        self.began = time.time()
        self.out = options.out.resolve()
        self.scratch = scratch
        self.memory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-gpu-", dir=machine.SHM))
        self.rows: list[Row] = []
        self.gpus = len(machine.nvidia_smi("name"))
        self._process: subprocess.Popen[bytes] | None = None
        self.out.mkdir(parents=True, exist_ok=True)
        for name in ("iterations.csv", "holdfastd.log"):  # these are appended to
            (self.out / name).unlink(missing_ok=True)
        if options.wheel is not None:
            self.package = install.of_wheel(options.wheel, scratch / "package")
        elif options.native is not None:
            self.package = install.of_build(options.native.resolve(), options.device == "sim")
        else:
            self.package = install.of_environment()

    def say(self, text: str) -> None:
        print(f"[{time.time() - self.began:6.1f} s] {text}", flush=True)

    def left(self) -> float:
        return self.began + float(self.options.budget) - time.time()

    def keep(self, rows: list[Row]) -> None:
        report.write(rows, self.out / "results.json")
        (self.out / "table.txt").write_text(report.table(rows) + "\n")

    def all(self) -> None:
        self.say(f"{self.package.version()}; results go to {self.out}")
        for program in PROGRAMS:
            names = [work for work in program.works if work in self.options.names]
            if not names:
                continue
            why = self._why_not(program)
            if why:
                self.rows += [skipped(name, why) for name in names]
            else:
                self.rows += self._stage(program, names)
            self.keep(self.rows)

    def _why_not(self, program: Program) -> str:
        if self.left() < LEAST_SECONDS:
            return "the time of --budget is over"
        if program.gpus and self.options.device == "cuda" and self.gpus < program.gpus:
            return f"needs {program.gpus} GPUs, this machine has {self.gpus}"
        return ""

    def _stage(self, program: Program, names: list[str]) -> list[Row]:
        name = pathlib.Path(program.file).stem
        folder = self.scratch / name
        memory = self.memory / name
        folder.mkdir()
        memory.mkdir()
        daemon: Daemon | None = None
        try:
            arena, room = program.arena, program.memory
            if self.options.device != "cuda":
                arena, room = min(TINY_ARENA, arena), min(TINY_ARENA, room)
            if arena or room:
                self.say(machine.make_room(arena + room + GB // 10))
            if arena:
                daemon = Daemon(self.package, folder / "node", memory / "arena", arena)
                self.say(daemon.note)
            seconds = min(program.seconds, self.left())
            settings = self._settings(names, folder, memory, seconds, daemon)
            return self._watch(program, settings, seconds)
        except (DaemonError, OSError) as error:
            return [failed(each, str(error)[:300]) for each in names]
        finally:
            self._stop()
            if daemon is not None:
                daemon.stop()
                log = self.out / "holdfastd.log"
                with open(log, "a") as file:
                    file.write(f"---- {name}\n{daemon.tail()}\n")
            shutil.rmtree(memory, ignore_errors=True)

    def _settings(self, names: list[str], folder: pathlib.Path, memory: pathlib.Path,
                  seconds: float, daemon: Daemon | None) -> Settings:  # fmt: skip
        return Settings(
            device=self.options.device, tiny=self.options.tiny, names=names, began=self.began,
            ends=time.time() + seconds, rows=str(folder / "rows.jsonl"),
            facts=str(self.scratch / "facts.json"), out=str(self.out), scratch=str(folder),
            memory=str(memory), socket="" if daemon is None else str(daemon.socket),
        )  # fmt: skip

    def _watch(self, program: Program, settings: Settings, seconds: float) -> list[Row]:
        """Rows of a stage, written down as they come."""
        path = pathlib.Path(settings.scratch) / "settings.json"
        settings.write(path)
        environment = {**os.environ, **self.package.environment, "PYTHONUNBUFFERED": "1"}
        if settings.socket:
            environment["HOLDFAST_SOCKET"] = settings.socket
        if settings.device != "cuda":
            environment["OMP_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / program.file), str(path)],
            env=environment, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + seconds
        rows: list[Row] = []
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            found = _read(settings)
            if len(found) != len(rows):
                rows = found
                self.keep(self.rows + rows)
        code = self._process.poll()
        self._stop()
        rows = _read(settings)
        if code != 0:
            how = f"was stopped after {seconds:.0f} s" if code is None else f"ended with {code}"
            rows.append(failed(program.file, f"{how}: what is missing above was not measured"))
        return rows

    def _stop(self) -> None:
        """The stage with everything that it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def clean(self) -> None:
        self._stop()
        shutil.rmtree(self.memory, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)


def _read(settings: Settings) -> list[Row]:
    path = pathlib.Path(settings.rows)
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [Row(**json.loads(line)) for line in lines if line.endswith("}")]


def main() -> int:
    options = arguments()
    # Asked to end, it still ends what it has started and shows what it has.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        run = Run(options, pathlib.Path(tempfile.mkdtemp(prefix="holdfast-gpu-")))
    except (install.InstallError, OSError) as error:
        raise SystemExit(str(error)) from None
    try:
        run.all()
    finally:
        run.clean()
        run.keep(run.rows)
        print(f"\n{report.table(run.rows)}\n", flush=True)
    plot.draw(run.out)
    judged = [row for row in run.rows if row.ok is not None]
    right = sum(row.ok is True for row in judged)
    run.say(f"{right} of {len(judged)} reached")
    return 1 if any(row.reach == "not measured" for row in run.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
