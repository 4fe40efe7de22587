"""What a person at a terminal sees while a drain waits: how much is written, how fast, how long yet.

    drain my-job 1200@7  12.4 GiB of 96.0 GiB  13 %  2.10 GiB/s  39s left  to /checkpoints

Nothing at all where standard error is no terminal: a log holds results.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import TextIO

from holdfast.errors import HoldfastError

_INTERVAL = 0.5  # seconds; also what a drain may take without a word
_WIDTH = 100  # of a terminal that does not say its own
_LONGEST_NAME = 40
_LONGEST = 8.64e6  # seconds: a rate measured at the start may be absurd


@dataclasses.dataclass(frozen=True)
class Flushing:
    """The way to one persistent folder.  step -1: nothing is on it.  Bytes are those of this node."""

    root: str
    incarnation: int
    step: int
    bytes: int
    done: int
    error: str


def format_bytes(count: float) -> str:
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        units.pop(0)
    if units[0] == "B":
        return f"{int(count)} B"
    digits = 2 if count < 10 else 1 if count < 100 else 0
    return f"{count:.{digits}f} {units[0]}"


def format_duration(seconds: float) -> str:
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02}h"


class Meter:
    """Lines from looks at the same drain, one after another; the rate is that since the first look
    at a snapshot and folder."""

    def __init__(self, job: str) -> None:
        self._job = job if len(job) <= _LONGEST_NAME else job[: _LONGEST_NAME - 3] + "..."
        self._first: dict[tuple[str, int, int], tuple[float, int]] = {}

    def line(self, tiers: list[Flushing], now: float) -> str:
        moving = [t for t in tiers if t.step >= 0]
        if not moving:
            errors = "; ".join(f"{t.root}: {t.error}" for t in tiers if t.error)
            return f"drain {self._job}  waiting" + (f"  {errors}" if errors else "")
        # Of several folders the one with most to write ends last.
        slowest = max(moving, key=lambda t: t.bytes - t.done)
        return f"drain {self._job} " + self._describe(slowest, now)

    def _describe(self, tier: Flushing, now: float) -> str:
        key = (tier.root, tier.incarnation, tier.step)
        began, before = self._first.setdefault(key, (now, tier.done))
        text = f"{tier.step}@{tier.incarnation}  "
        if tier.error and tier.done == 0:
            return text + f"retries: {tier.error}"
        text += f"{format_bytes(tier.done)} of {format_bytes(tier.bytes)}"
        if tier.bytes:
            text += f"  {100 * tier.done // tier.bytes} %"
        rate = (tier.done - before) / (now - began) if now > began else 0.0
        if rate >= 1:
            text += f"  {format_bytes(rate)}/s"
            left = (tier.bytes - tier.done) / rate
            if 0 < left < _LONGEST:
                text += f"  {format_duration(left)} left"
        # Last: a long path may be cut, the numbers may not.
        return text + f"  to {tier.root}"


class DrainProgress:
    """A line on the terminal while the body of the with statement waits; wiped at its end.

    look: called from a thread of this object, never after __exit__."""

    def __init__(
        self,
        job: str,
        look: Callable[[], list[Flushing]],
        wanted: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._look = look
        self._meter = Meter(job)
        self._job = job
        self._over = threading.Event()
        self._drawn = 0
        terminal = wanted and self._stream is not None and self._stream.isatty()
        self._thread = threading.Thread(target=self._run, daemon=True) if terminal else None

    def __enter__(self) -> "DrainProgress":
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread is not None:
            # All the way: the client may be closed next.
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(_INTERVAL):
                self._draw(self._now())
            if self._drawn:
                self._draw("")
                self._stream.write("\r")
                self._stream.flush()
        except (OSError, ValueError):
            pass  # the terminal is gone; the drain is not

    def _now(self) -> str:
        try:
            return self._meter.line(self._look(), time.monotonic())
        except HoldfastError as error:
            return f"drain {self._job}  holdfastd does not answer ({error})"

    def _draw(self, line: str) -> None:
        try:
            width = os.get_terminal_size(self._stream.fileno()).columns or _WIDTH
        except (OSError, ValueError):
            width = _WIDTH
        # A line that wraps cannot be redrawn, and a reason may hold anything.
        safe = "".join(c if c.isprintable() else "?" for c in line)[: width - 1]
        self._stream.write("\r" + safe.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(safe)


__all__ = ["DrainProgress", "Flushing", "Meter"]
