"""Nodes of a job on this machine, for peer_works.py: a daemon and a rank each, at 127.0.2.N."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import re
import sys
import time
import urllib.request
from collections.abc import Callable

from programs import ROOT, BenchError, Daemon, Folders, Program

_STARTS = itertools.count()
PATIENCE = 120.0
LOOK = 0.25  # daemons renew their metrics as often
SETTLE = 2 * LOOK
TCP = "tcp;ofi_rxm"


class Nodes:
    """code: (k, m).  what: of each rank, as peer_rank.py takes it.  plane: libfabric's provider."""

    def __init__(
        self,
        binaries: pathlib.Path,
        folders: Folders,
        world: int,
        code: tuple[int, int],
        what: str,
        budget: str,
        more: str = "",
        plane: str = TCP,
    ) -> None:
        self._binaries, self._folders, self._budget, self._what = binaries, folders, budget, what
        self._plane = plane
        self._config = (
            f"[coding]\ndata = {code[0]}\nparity = {code[1]}\n{more}[restore]\nwait = \"10s\"\n"
        )
        self._stack = contextlib.ExitStack()
        self._ranks = contextlib.ExitStack()
        self._world = world
        self.daemons: list[Daemon] = []
        self.ranks: list[Program] = []

    def __enter__(self) -> "Nodes":
        try:
            for i in range(self._world):
                self.daemons.append(self._daemon(i))
            self.watch = self._stack.enter_context(
                Program([str(self._binaries / "bench/job_watch"), str(self.daemons[0].socket), "peers"])
            )
            self.start_ranks()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *why: object) -> None:
        self._ranks.close()
        self._stack.close()

    def _daemon(self, i: int) -> Daemon:
        address = f"127.0.2.{i + 1}"
        # The default of the list is of cards that this machine has not.
        peer = f'[peer]\nlisten = "{address}:7411"\ndata_plane = "{self._plane}"\ndead_after = "2s"\n'
        name = f"node-{next(_STARTS)}"
        daemon = Daemon(self._binaries, self._folders, name, self._budget,
                        peer + self._config, f"{address}:7412")  # fmt: skip
        return self._stack.enter_context(daemon)

    def start_ranks(self) -> None:
        store = self._folders.disk / f"store-{next(_STARTS)}"
        commands = [
            [sys.executable, str(ROOT / "bench/peer_rank.py"), str(i), str(self._world), str(store),
             self._what] for i in range(self._world)
        ]  # fmt: skip
        # All at once: none is ready before the others.
        self.ranks = [
            Program(command, daemon.environment) for command, daemon in zip(commands, self.daemons)
        ]
        for rank in self.ranks:
            self._ranks.enter_context(rank)

    def restart_ranks(self) -> None:
        self._ranks.close()
        self.start_ranks()

    def replace(self, i: int) -> None:
        """Node i is lost with its memory; an empty one takes its place."""
        self.daemons[i].__exit__(None, None, None)
        self.daemons[i] = self._daemon(i)

    def ask(self, command: str) -> list[list[float]]:
        """Of all ranks at once."""
        return Program.ask_all(self.ranks, command)

    def metric(self, i: int, name: str, label: str = "") -> float:
        """0 where it has no such sample."""
        url = f"http://127.0.2.{i + 1}:7412/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        labels = r"\{[^}]*" + re.escape(f'"{label}"') + r"[^}]*\}" if label else r"(?:\{[^}]*\})?"
        found = re.search(rf"^{name}{labels} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def settled(self, name: str, label: str = "") -> float:
        """Of all nodes, when nothing is under way."""
        time.sleep(SETTLE)
        return self._total(name, label)

    def _total(self, name: str, label: str = "") -> float:
        return sum(self.metric(i, name, label) for i in range(self._world))

    def wait_for(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise BenchError(f"{what} did not happen in {PATIENCE:.0f} s")
            time.sleep(LOOK)
