"""The rows of the table, and how they are shown and kept."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Sequence


@dataclasses.dataclass
class Row:
    """One comparison.  ratio is the median of the ratios of the rounds, so it may differ a little
    from ours / ceiling, which are medians of their own.  A row without reach is shown for
    comparison and cannot fail."""

    work: str
    unit: str
    ours: float | None = None
    ceiling: float | None = None
    ratio: float | None = None
    reach: str = ""
    ok: bool | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Reach:
    """What a row must reach: at least or at most a number, of the ratio or of our own figure."""

    of: str  # "ratio" or "ours"
    least: float | None = None
    most: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        sign, number = (">=", self.least) if self.least is not None else ("<=", self.most)
        what = "ratio " if self.of == "ratio" else ""
        return f"{what}{sign} {number:g}{' ' + self.unit if self.unit else ''}"

    def holds(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def compared(
    work: str,
    unit: str,
    ours: Sequence[float],
    ceiling: Sequence[float],
    reach: Reach | None,
    note: str = "",
) -> Row:
    """A row of figures that were taken in turns: ours[i] and ceiling[i] belong together."""
    ratio = median([a / b for a, b in zip(ours, ceiling, strict=True)])
    row = Row(work, unit, median(ours), median(ceiling), ratio, note=note)
    if reach is not None:
        row.reach = str(reach)
        row.ok = reach.holds(ratio if reach.of == "ratio" else median(ours))
    return row


def alone(work: str, unit: str, ours: float, reach: Reach, note: str = "") -> Row:
    """A row with a reach of its own and no ceiling."""
    return Row(work, unit, ours, reach=str(reach), ok=reach.holds(ours), note=note)


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = f"{value:.1f}" if value >= 100 else f"{value:.3g}"
    return f"{digits} {unit}"


def table(rows: Sequence[Row]) -> str:
    lines = [("work", "ours", "ceiling or peer", "ratio", "reach", "ok", "")]
    for r in rows:
        verdict = "" if r.ok is None else "ok" if r.ok else "MISSED"
        ratio = "" if r.ratio is None else f"{r.ratio:.3f}"
        lines.append(
            (r.work, _number(r.ours, r.unit), _number(r.ceiling, r.unit), ratio, r.reach, verdict,
             r.note)
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    left = {0, 4, 5, 6}
    text = [
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def write(rows: Sequence[Row], path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([dataclasses.asdict(r) for r in rows], indent=1) + "\n")
