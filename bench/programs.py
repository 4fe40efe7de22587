"""The processes of a bench: programs that are asked for figures, a daemon, and fio."""

from __future__ import annotations

import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from types import TracebackType

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGETS = [
    "//bench:copy_bench", "//bench:code_bench", "//bench:tier_bench", "//bench:request_bench",
    "//bench:registration_bench", "//bench:soak_bench", "//bench:fabric_bench",
    "//bench:coordinator_bench", "//bench:job_watch",
    "//client:libholdfast.so", "//daemon:holdfastd", "//cli:holdfast",
]  # fmt: skip
START_SECONDS = 60.0
ANSWER_SECONDS = 300.0


class BenchError(Exception):
    """A figure could not be taken."""


def build() -> pathlib.Path:
    """Builds what is measured, optimised; the folder with the results."""
    bazel = os.environ.get("BAZEL", "bazel").split()
    subprocess.run([*bazel, "build", "--config=opt", *TARGETS], cwd=ROOT, check=True)
    found = subprocess.run(
        [*bazel, "info", "--config=opt", "bazel-bin"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return pathlib.Path(found.stdout.strip())


class Program:
    """A program that speaks bench/commands.h's protocol."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.name = pathlib.Path(command[0]).name
        if self.name.startswith("python"):
            self.name = pathlib.Path(command[1]).name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def _answer(self) -> str:
        try:
            line = self._lines.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise BenchError(f"{self.name} gave no answer in {ANSWER_SECONDS:.0f} s") from None
        if not line:
            raise BenchError(f"{self.name} ended with {self._process.wait(10)}")
        if line.startswith("error"):
            raise BenchError(f"{self.name}: {line.removeprefix('error').strip()}")
        return line

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def numbers(self) -> list[float]:
        """What it answers to the last that it was told."""
        return [float(word) for word in self._answer().split()[1:]]

    def ask(self, command: str) -> list[float]:
        """The numbers that it answers."""
        self.tell(command)
        return self.numbers()

    @staticmethod
    def ask_all(programs: "Sequence[Program]", command: str) -> list[list[float]]:
        """What each answers, asked at one time."""
        for program in programs:
            program.tell(command)
        return [program.numbers() for program in programs]

    def __enter__(self) -> "Program":
        try:
            if self._answer() != "ready":
                raise BenchError(f"{self.name} does not speak our protocol")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        """The end of its input ends it; else SIGKILL does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Folders:
    """Temporary folders: "disk" on the disk to be measured, "memory" for arenas: a tmpfs of huge
    pages, as docs/operations.md advises, where this user may mount one, else in /dev/shm."""

    def __init__(self, disk: pathlib.Path) -> None:
        self.disk = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=disk))
        self.memory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir="/dev/shm"))
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "mode=0700,huge=within_size", "tmpfs", str(self.memory)],
            capture_output=True, text=True,
        )  # fmt: skip
        self.note = "arenas: a tmpfs of its own, huge=within_size"
        if mounted.returncode != 0:
            self.note = f"arenas: /dev/shm ({mounted.stderr.strip()})"
        os.environ["HOLDFAST_BENCH_ARENA"] = str(self.memory)

    def remove(self) -> None:
        subprocess.run(["umount", str(self.memory)], capture_output=True)
        shutil.rmtree(self.disk, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)


class Daemon:
    """A holdfastd with folders of its own, which go with it.  config: lines of TOML."""

    def __init__(
        self, binaries: pathlib.Path, folders: Folders, name: str, budget: str,
        config: str = "", metrics: str = "off",
    ) -> None:  # fmt: skip
        self.folder = folders.disk / name
        self.arena = folders.memory / name
        self.root = self.folder / "root"
        self.root.mkdir(parents=True)
        self.arena.mkdir(mode=0o700)
        self.socket = self.folder / "holdfastd.sock"
        self.environment = {
            "HOLDFAST_SOCKET": str(self.socket),
            "HOLDFAST_LIBRARY": str(binaries / "client/libholdfast.so"),
            "PYTHONPATH": str(ROOT / "client" / "python"),
        }
        self._cli = binaries / "cli/holdfast"
        self._log = self.folder / "holdfastd.log"
        command = [
            str(binaries / "daemon/holdfastd"), "--user",
            "--state-dir", str(self.folder / "state"), "--arena", str(self.arena),
            "--socket", str(self.socket), "--budget", budget, "--metrics", metrics,
            "--config", str(self.folder / "holdfastd.toml"),
        ]  # fmt: skip
        (self.folder / "holdfastd.toml").write_text(config)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def _answers(self) -> bool:
        status = subprocess.run(
            [str(self._cli), "status"],
            env={**os.environ, **self.environment},
            capture_output=True,
        )
        return status.returncode == 0

    def __enter__(self) -> "Daemon":
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self._log.read_text(errors="replace")[-2000:]
                self.__exit__(None, None, None)
                raise BenchError(f"holdfastd does not answer; its log ends with\n{log}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.arena, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def memory_bytes(self) -> int:
        """What it holds outside the arena: resident, without pages of shared memory, which are the
        arena's."""
        sizes = {}
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in ("RssAnon", "RssFile"):
                sizes[key] = int(value.split()[0]) * 1024
        return sum(sizes.values())


def fio(path: pathlib.Path, direction: str, size: int, block: int, depth: int) -> float:
    """Bytes a second of fio ("write" or "read") on one file, past the page cache.  A write makes a
    new file and ends with fsync, as ours does."""
    if direction == "write":
        path.unlink(missing_ok=True)
    command = [
        "fio", "--name=ceiling", f"--filename={path}", f"--rw={direction}", f"--bs={block}",
        f"--iodepth={depth}", "--ioengine=io_uring", "--direct=1", f"--size={size}",
        "--fallocate=native", "--thread", "--output-format=json",
    ]  # fmt: skip
    command.append("--end_fsync=1" if direction == "write" else "--readonly")
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise BenchError(f"fio: {result.stderr.strip()[-500:]}")
    # fio prints notes before the JSON now and then.
    answer = json.loads(result.stdout[result.stdout.index("{") :])
    return float(answer["jobs"][0][direction]["bw_bytes"])
