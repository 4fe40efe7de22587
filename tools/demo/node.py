"""One node: its daemon with own folders, and the command line program looking at it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

_Found = TypeVar("_Found")

WAIT_SECONDS = 90.0


class DemoError(Exception):
    """Something did not happen as promised."""


class NoAnswer(DemoError):
    """The command line program got no answer, as while a daemon is away."""


def wait_for(what: str, look: Callable[[], _Found | None], seconds: float = WAIT_SECONDS) -> _Found:
    """Looks until there is something; says what was awaited in vain.  Whoever looks by running a
    program does so for a third of the time at most, or what is awaited would wait for that."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        with contextlib.suppress(NoAnswer):
            found = look()
            if found is not None:
                return found
        if time.monotonic() > deadline:
            raise DemoError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(min(0.2, max(0.01, 2 * (time.monotonic() - began))))


def alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def signal_process(pid: int, number: signal.Signals) -> None:
    """Nothing where it is gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@dataclasses.dataclass(frozen=True)
class ShardKey:
    incarnation: int
    step: int
    rank: int


class Node:
    """A holdfastd with folders of its own.  stop() ends it for good; kill() as a crash does."""

    def __init__(
        self, folder: pathlib.Path, arena: pathlib.Path, environment: dict[str, str]
    ) -> None:
        self.state = folder / "state"
        self.arena = arena
        self.root = folder / "persistent"
        self.log = folder / "holdfastd.log"
        self.environment = {**environment, "HOLDFAST_SOCKET": str(folder / "holdfastd.sock")}
        self._programs = pathlib.Path(environment["HOLDFAST_BIN"])
        self.process: subprocess.Popen[bytes] | None = None
        self.launcher: tuple[str, ...] = ()  # a command that becomes the daemon by exec
        self._supervisor: threading.Thread | None = None
        self._supervised = threading.Event()
        self.restarts = 0
        for path in (self.state, self.root):
            path.mkdir(parents=True)
        self._config = folder / "holdfastd.toml"
        self._config.touch()

    def start(
        self,
        failpoints: str = "",
        config: str = "",
        metrics: str = "off",
        flags: tuple[str, ...] = (),
    ) -> None:
        """config: lines of TOML; it stays for later starts."""
        if config:
            self._config.write_text(config)
        self.arena.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [
            *self.launcher,
            str(self._programs / "holdfastd"), "--user",
            "--state-dir", str(self.state), "--arena", str(self.arena),
            "--socket", self.environment["HOLDFAST_SOCKET"],
            "--budget", "512MiB", "--metrics", metrics,
            "--config", str(self._config),
            *flags,
        ]  # fmt: skip
        environment = {**os.environ, **self.environment, "HOLDFAST_FAILPOINTS": failpoints}
        if not failpoints:
            del environment["HOLDFAST_FAILPOINTS"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        wait_for("the daemon's answer", self._answers, 30.0)

    def _answers(self) -> bool | None:
        assert self.process is not None
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise DemoError(f"holdfastd ended with {self.process.returncode}:\n{tail}")
        return True if self.cli("status").returncode == 0 else None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As systemd does: SIGTERM, and SIGKILL if that does not help."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    # ---- what the command line program says ----

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._programs / "holdfast"), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        result = self.cli(*arguments, "--json")
        if result.returncode != 0:
            raise NoAnswer(f"holdfast {' '.join(arguments)}: {result.stdout}{result.stderr}")
        answer = json.loads(result.stdout)
        assert isinstance(answer, dict)
        return answer

    def job(self) -> dict[str, Any] | None:
        """The one job of this node, if the daemon answers and knows it."""
        result = self.cli("status", "--json")
        jobs = json.loads(result.stdout)["jobs"] if result.returncode == 0 else []
        return jobs[0] if jobs else None

    def snapshots(self, *place: str) -> list[dict[str, Any]]:
        """Newest first; of the daemon, or of a place such as "--root", path."""
        return list(self.json("ls", *place)["snapshots"])

    def at_rest(self) -> set[ShardKey]:
        """Every sealed shard in the folders of a daemon that is dead."""
        return self.sealed("--state-dir", str(self.state), "--arena", str(self.arena))

    def sealed(self, *place: str) -> set[ShardKey]:
        """Every sealed shard that can be read."""
        return {
            ShardKey(s["incarnation"], s["step"], shard["rank"])
            for s in self.snapshots(*place)
            for shard in s["shards"]
            if shard["state"] == "sealed"
        }

    def newest_complete(self) -> int:
        """Step of the newest complete snapshot, -1: none."""
        complete = ("complete", "durable")
        return max((s["step"] for s in self.snapshots() if s["state"] in complete), default=-1)

    def durable(self) -> list[int]:
        """Steps of the durable snapshots, newest first, read from the folder itself."""
        found = self.snapshots("--root", str(self.root))
        return sorted({s["step"] for s in found if s["durable_on"]}, reverse=True)

    def lose_memory(self) -> None:
        """What a reboot does to the arena."""
        shutil.rmtree(self.arena)

    # ---- a supervisor, as systemd would be ----

    def supervise(
        self, died: Callable[[], None] = lambda: None, back: Callable[[], None] = lambda: None
    ) -> None:
        """Starts a new daemon whenever the present one dies, until unsupervise(): calls "died"
        before it, "back" when the new one answers."""
        self._supervised.set()

        def start_again() -> None:
            """One that is killed while it starts is no reason to give up; one that cannot start is."""
            for _ in range(4):
                with contextlib.suppress(DemoError):
                    return self.start()
            self.start()

        def watch() -> None:
            while self._supervised.is_set():
                if self.process is not None and self.process.poll() is not None:
                    died()
                    start_again()
                    back()
                    self.restarts += 1
                time.sleep(0.02)

        self._supervisor = threading.Thread(target=watch)
        self._supervisor.start()

    def unsupervise(self) -> None:
        self._supervised.clear()
        if self._supervisor is not None:
            self._supervisor.join()
            self._supervisor = None

    def clean(self) -> None:
        self.unsupervise()
        self.stop()
        shutil.rmtree(self.arena, ignore_errors=True)
