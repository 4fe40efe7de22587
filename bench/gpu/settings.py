"""What a stage of the bench is told by run.py, and how it tells what it found.

A stage is a program of its own: run.py starts it, stops it when its time is over, and reads the
rows that it has written so far.  So nothing that goes wrong in one takes the figures of another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from report import Reach, Row

GB = 1_000_000_000
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    # GPT with tied output layer: 833.7 million parameters in 292 tensors, with fp32 AdamW 10.0 GB
    # in 1,168.
    layers: int = 24
    heads: int = 13
    width: int = 1664
    vocabulary: int = 20480
    length: int = 1024
    slow_ms: float = 400.0
    fast_ms: float = 103.0
    rounds: int = 5
    side_rounds: int = 3  # of what is compared beside the main figure
    iterations: int = 12  # of a block
    slots: int = 5
    bare_bytes: int = 10 * GB
    peer_iterations: int = 1
    torn_tensors: int = 80
    torn_elements: int = 1 << 20  # of each tensor; with AdamW three of them, 1.0 GB
    torn_times: int = 100
    calm_steps: int = 10_000
    kill_tensors: int = 160
    kills: int = 4


TINY = Sizes(
    layers=2, heads=2, width=64, vocabulary=256, length=32, rounds=2, side_rounds=1, iterations=3,
    slots=3,  # a tiny state is sealed before another is wanted
    bare_bytes=4 * MIB, peer_iterations=1, torn_tensors=4, torn_elements=1 << 16, torn_times=3,
    calm_steps=100, kill_tensors=4, kills=2,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    device: str  # "cuda", "sim" or "cpu"
    tiny: bool
    names: list[str]  # works of this stage that are wanted
    began: float  # of the whole run, time.time()
    ends: float  # of this stage's time, time.time()
    rows: str  # file for the rows, one JSON object a line
    facts: str  # file with what one stage has found and another needs
    out: str  # folder for what is to be kept
    scratch: str  # folder of this stage for everything else
    memory: str  # the same, in memory
    socket: str

    @property
    def sizes(self) -> Sizes:
        if not self.tiny:
            return Sizes()
        if not self.cuda:
            return TINY
        # A GPU is too fast for a tiny state to be torn.
        full = Sizes()
        return dataclasses.replace(
            TINY, torn_tensors=full.torn_tensors, torn_elements=full.torn_elements,
            kill_tensors=full.kill_tensors,
        )  # fmt: skip

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def simulated(self) -> bool:
        return self.device == "sim"

    def write(self, path: pathlib.Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def read(path: str) -> "Settings":
        return Settings(**json.loads(pathlib.Path(path).read_text()))


class Skipped(Exception):
    """A work that cannot be measured here, with the reason; no failure."""


class Stage:
    """A running stage."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sizes = settings.sizes

    @staticmethod
    def of_arguments() -> "Stage":
        return Stage(Settings.read(sys.argv[1]))

    def say(self, text: str) -> None:
        print(f"[{time.time() - self.settings.began:6.1f} s] {text}", flush=True)

    def left(self) -> float:
        """Seconds until run.py stops this stage."""
        return self.settings.ends - time.time()

    def add(self, *rows: Row) -> None:
        with open(self.settings.rows, "a") as file:
            for row in rows:
                file.write(json.dumps(dataclasses.asdict(row)) + "\n")
                ours = "" if row.ours is None else f" {row.ours:.4g} {row.unit}"
                ratio = "" if row.ratio is None else f", ratio {row.ratio:.4f}"
                self.say(f"  {row.work}:{ours}{ratio} {row.note}")

    def facts(self) -> dict[str, Any]:
        path = pathlib.Path(self.settings.facts)
        found = json.loads(path.read_text()) if path.exists() else {}
        assert isinstance(found, dict)
        return found

    def keep_facts(self, **values: Any) -> None:
        pathlib.Path(self.settings.facts).write_text(json.dumps({**self.facts(), **values}))

    @contextlib.contextmanager
    def guarded(self, work: str) -> Iterator[None]:
        """A failure inside becomes a row."""
        try:
            yield
        except Skipped as reason:
            self.add(skipped(work, str(reason)))
        except Exception as error:
            traceback.print_exc()
            text = str(error).strip().splitlines()
            self.add(failed(work, f"{type(error).__name__}: {text[0][:300] if text else ''}"))

    def run(self, works: dict[str, Callable[[], None]], reserve: float = 5.0) -> None:
        """Those that are wanted, in order, each guarded."""
        for name, work in works.items():
            if name not in self.settings.names:
                continue
            if self.left() < reserve:
                self.add(skipped(name, "no time was left"))
                continue
            self.say(f"{name} ...")
            with self.guarded(name):
                work()


def skipped(work: str, why: str) -> Row:
    return Row(work, "", reach="skipped", note=why)


def failed(work: str, why: str) -> Row:
    return Row(work, "", reach="not measured", ok=False, note=why)


def counted(work: str, count: int, of: int, note: str = "") -> Row:
    """How often something was right, where every time is needed."""
    reach = Reach("ours", least=of)
    return Row(work, "times", float(count), reach=f">= {of}", ok=reach.holds(count), note=note)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
