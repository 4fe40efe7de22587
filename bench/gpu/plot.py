#!/usr/bin/env python3
"""Draws iterations.csv as one SVG for each work: the time of each iteration, by the way to save.

    python3 bench/gpu/plot.py DIR
"""

from __future__ import annotations

import csv
import pathlib
import sys
from collections.abc import Sequence

WIDTH, HEIGHT = 900, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 50
COLOURS = ["#6b7280", "#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed"]


class Frame:
    """The drawing's coordinates."""

    def __init__(self, count: int, low: float, high: float) -> None:
        self.count, self.low, self.high = count, low, high

    def x(self, i: float) -> float:
        return LEFT + i / max(1, self.count - 1) * (WIDTH - LEFT - RIGHT)

    def y(self, ms: float) -> float:
        share = (ms - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def text(x: float, y: float, what: str, anchor: str = "start", colour: str = "#111827") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
            f"{what}</text>")  # fmt: skip


def document(lines: Sequence[str], height: int) -> str:
    body = "\n".join(lines)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" '
            f'fill="white"/>\n{body}\n</svg>\n')  # fmt: skip


def axes(frame: Frame, title: str) -> list[str]:
    lines = [text(LEFT, 24, title)]
    for i in range(5):
        ms = frame.low + (frame.high - frame.low) * i / 4
        y = frame.y(ms)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>')
        lines.append(text(LEFT - 8, y + 4, f"{ms:.1f}", "end"))
    lines.append(text(18, HEIGHT / 2, "ms"))
    lines.append(text(WIDTH / 2, HEIGHT - 12, "iteration, as the run went", "middle"))
    return lines


def chart(title: str, points: Sequence[tuple[str, float]]) -> str:
    """points: way and milliseconds, in the order of the run."""
    times = sorted(ms for _, ms in points)
    # A single stall must not flatten the rest; it is drawn at the edge.
    high = min(times[-1], 1.5 * times[len(times) // 2])
    margin = 0.1 * (high - times[0]) + 0.001 * high + 1e-6
    frame = Frame(len(points), times[0] - margin, high + margin)
    lines = axes(frame, title)
    names = list(dict.fromkeys(name for name, _ in points))
    for n, name in enumerate(names):
        colour = COLOURS[n % len(COLOURS)]
        own = sorted(ms for each, ms in points if each == name)
        label = f"{name}: median {own[len(own) // 2]:.2f} ms"
        lines.append(f'<circle cx="{LEFT + 6 + n * 250}" cy="38" r="4" fill="{colour}"/>')
        lines.append(text(LEFT + 16 + n * 250, 42, label, colour=colour))
        for i, (each, ms) in enumerate(points):
            if each == name:
                y = frame.y(min(ms, frame.high))
                lines.append(f'<circle cx="{frame.x(i):.1f}" cy="{y:.1f}" r="2.5" '
                             f'fill="{colour}"/>')  # fmt: skip
    return document(lines, HEIGHT)


def draw(folder: pathlib.Path) -> list[pathlib.Path]:
    source = folder / "iterations.csv"
    if not source.exists():
        return []
    works: dict[str, list[tuple[str, float]]] = {}
    with open(source, newline="") as file:
        for row in csv.DictReader(file):
            works.setdefault(row["work"], []).append((row["method"], float(row["ms"])))
    made = []
    for n, (work, points) in enumerate(works.items(), 1):
        path = folder / f"iterations-{n}.svg"
        path.write_text(chart(work, points))
        made.append(path)
    return made


if __name__ == "__main__":
    for drawn in draw(pathlib.Path(sys.argv[1])):
        print(drawn)
