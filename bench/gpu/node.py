"""A holdfastd of the bench: its own folders, its arena in /dev/shm."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import time

from install import Package

START_SECONDS = 60.0


class DaemonError(Exception):
    pass


class Daemon:
    def __init__(
        self, package: Package, folder: pathlib.Path, arena: pathlib.Path, budget: int
    ) -> None:
        folder.mkdir(parents=True)
        arena.mkdir(mode=0o700)
        self.note = _mount_huge(arena, budget)
        self.socket = folder / "holdfastd.sock"
        self.log = folder / "holdfastd.log"
        self._arena = arena
        self._package = package
        self._environment = {**os.environ, **package.environment,
                             "HOLDFAST_SOCKET": str(self.socket)}  # fmt: skip
        command = [
            str(package.programs["holdfastd"]), "--user",
            "--state-dir", str(folder / "state"), "--arena", str(arena),
            "--socket", str(self.socket), "--budget", str(budget), "--metrics", "off",
        ]  # fmt: skip
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        try:
            self._await_answer()
        except BaseException:
            self.stop()
            raise

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._status() != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DaemonError(f"holdfastd does not answer; its log ends with\n{self.tail()}")
            time.sleep(0.05)

    def _status(self) -> int:
        return subprocess.run(
            [str(self._package.programs["holdfast"]), "status"],
            env=self._environment, capture_output=True,
        ).returncode  # fmt: skip

    def tail(self, size: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-size:]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        subprocess.run(["umount", str(self._arena)], capture_output=True)
        shutil.rmtree(self._arena, ignore_errors=True)


def _mount_huge(arena: pathlib.Path, budget: int) -> str:
    """A tmpfs of huge pages for the arena, as docs/operations.md advises; what came of it."""
    size = budget + budget // 50
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},huge=within_size,mode=700", "tmpfs", str(arena)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        return f"the arena has small pages: {done.stderr.strip()}"
    return "the arena is a tmpfs of its own, huge=within_size"
