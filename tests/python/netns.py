"""A network of this machine alone: a namespace for each node, and links that can be made to fail.

Each node has two cards.  The daemons talk over `peer`, which is what tests disturb; the ranks' process
group has `train`, which nobody touches: a training whose own collectives are cut shows nothing of a
daemon.  Both are veth pairs to a bridge each in one more namespace, with no way out of it.

Needs root, iproute2 and nsenter; `why_not` says what is missing.  Names hold the pid of the process
that made them, so any number of runs may be at it at one time, and what a killed run has left is
removed by the next.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Callable
from typing import Any

_PREFIX = "holdfast-net-"
_serial = itertools.count()
_NETS = {"peer": 71, "train": 72}  # 10.N.0.0/24
_NOWHERE = "02:00:00:00:00:99"  # no card has it
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NetError(Exception):
    """A command that makes or changes the network failed."""


def _run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if result.returncode != 0:
        raise NetError(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def _namespaces() -> list[str]:
    names = [line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line.strip()]
    return [name for name in names if name.startswith(_PREFIX)]


def _remove(name: str) -> None:
    """With every process in it: all of them were started by the run that made it."""
    with contextlib.suppress(NetError):
        for pid in _run("ip", "netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _run("ip", "netns", "delete", name)


def _remove_orphans() -> None:
    for name in _namespaces():
        owner = name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not pathlib.Path(f"/proc/{owner}").exists():
            _remove(name)


def why_not() -> str | None:
    """What this machine lacks; None: nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    try:
        Network(1).remove()
    except NetError as error:
        return f"no network namespaces here: {error}"
    return None


def inside(name: str, function: Callable[..., None], *arguments: Any) -> None:
    """Moves this process, which has one thread yet, to that namespace, and calls the function."""
    with open(f"/run/netns/{name}") as place:
        if _libc.setns(place.fileno(), _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), name)
    function(*arguments)


class Network:
    """Nodes 0 to count - 1.  remove() it, whatever happens."""

    def __init__(self, count: int) -> None:
        _remove_orphans()
        stem = f"{_PREFIX}{os.getpid()}-{next(_serial)}"
        self._hub = f"{stem}-hub"
        self.names = [f"{stem}-{i}" for i in range(count)]
        self._deaf: set[tuple[int, int]] = set()
        self._unplugged: set[int] = set()
        self._shaped: set[int] = set()
        try:
            self._build()
        except BaseException:
            self.remove()
            raise

    def _build(self) -> None:
        for name in (self._hub, *self.names):
            _run("ip", "netns", "add", name)
        for kind in _NETS:
            _run("ip", "-n", self._hub, "link", "add", f"{kind}s", "type", "bridge")
            _run("ip", "-n", self._hub, "link", "set", f"{kind}s", "up")
        for i, name in enumerate(self.names):
            _run("ip", "-n", name, "link", "set", "lo", "up")
            for kind in _NETS:
                self._plug(i, name, kind)

    def _plug(self, i: int, name: str, kind: str) -> None:
        port = f"{kind}{i}"
        _run("ip", "-n", self._hub, "link", "add", port, "type", "veth",
             "peer", "name", kind, "netns", name)
        _run("ip", "-n", self._hub, "link", "set", port, "master", f"{kind}s", "up")
        _run("ip", "-n", name, "link", "set", kind, "addrgenmode", "none")  # IPv4 alone
        _run("ip", "-n", name, "address", "add", f"{self.address(i, kind)}/24", "dev", kind)
        _run("ip", "-n", name, "link", "set", kind, "up")

    def address(self, i: int, kind: str = "peer") -> str:
        return f"10.{_NETS[kind]}.0.{i + 1}"

    def launcher(self, i: int) -> tuple[str, ...]:
        """A command before another one, which then runs on that node."""
        return ("nsenter", f"--net=/run/netns/{self.names[i]}", "--")

    def processes(self, i: int) -> list[int]:
        return [int(pid) for pid in _run("ip", "netns", "pids", self.names[i]).split()]

    # ---- faults of the daemons' network, until heal() ----

    def lose(self, sender: int, receiver: int) -> None:
        """What one sends the other vanishes, and neither is told; the way back stays."""
        self._deaf.add((sender, receiver))
        _run("ip", "-n", self.names[sender], "neighbour", "replace", self.address(receiver),
             "lladdr", _NOWHERE, "nud", "permanent", "dev", "peer")

    def part(self, one: int, other: int) -> None:
        """Nothing passes between the two."""
        self.lose(one, other)
        self.lose(other, one)

    def isolate(self, i: int, how: str) -> None:
        """"both": nothing leaves or reaches the node; "out": nothing leaves it; "in": nothing reaches
        it; "link": its cable is pulled."""
        if how == "link":
            self._unplugged.add(i)
            _run("ip", "-n", self._hub, "link", "set", f"peer{i}", "down")
            return
        for other in range(len(self.names)):
            if other != i and how in ("both", "out"):
                self.lose(i, other)
            if other != i and how in ("both", "in"):
                self.lose(other, i)

    def shape(self, i: int, *qdisc: str) -> None:
        """What the node sends is delayed, lost or slowed as tc is told.  NetError: not by this kernel."""
        _run("tc", "-n", self.names[i], "qdisc", "add", "dev", "peer", "root", *qdisc)
        self._shaped.add(i)

    def heal(self) -> None:
        for sender, receiver in self._deaf:
            _run("ip", "-n", self.names[sender], "neighbour", "delete", self.address(receiver),
                 "dev", "peer")
        for i in self._unplugged:
            _run("ip", "-n", self._hub, "link", "set", f"peer{i}", "up")
        for i in self._shaped:
            _run("tc", "-n", self.names[i], "qdisc", "delete", "dev", "peer", "root")
        self._deaf, self._unplugged, self._shaped = set(), set(), set()

    def remove(self) -> None:
        for name in (*self.names, self._hub):
            _remove(name)


def shaping_refused(*qdisc: str) -> str | None:
    """Why this kernel, or this machine's tc, cannot do that; None: it can."""
    network = Network(1)
    try:
        network.shape(0, *qdisc)
    except (NetError, FileNotFoundError) as error:
        return str(error)
    finally:
        network.remove()
    return None
