#!/usr/bin/env python3
"""Draws what `bench/run.py --only coordinator` measured: the work of each node, by the number of
nodes.

    python3 bench/scale_plot.py bench/out/coordinator.csv docs/images/coordinator_nodes.svg
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Callable, Sequence

from gpu.plot import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, document, text
from scale import Cost, read


class Frame:
    """The drawing's coordinates; nodes by doublings."""

    def __init__(self, costs: Sequence[Cost], high: float) -> None:
        self.low = math.log2(costs[0].nodes)
        self.width = max(1.0, math.log2(costs[-1].nodes) - self.low)
        self.high = high

    def x(self, nodes: int) -> float:
        return LEFT + (math.log2(nodes) - self.low) / self.width * (WIDTH - LEFT - RIGHT)

    def y(self, ms: float) -> float:
        return HEIGHT - BOTTOM - ms / self.high * (HEIGHT - TOP - BOTTOM)


def axes(frame: Frame, costs: Sequence[Cost]) -> list[str]:
    lines = [text(LEFT, 24, "processor time for one snapshot, 8 ranks on each node")]
    for i in range(5):
        ms = frame.high * i / 4
        lines.append(f'<path d="M{LEFT} {frame.y(ms):.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>')
        lines.append(text(LEFT - 8, frame.y(ms) + 4, f"{ms:.1f}", "end"))
    for cost in costs:
        lines.append(text(frame.x(cost.nodes), HEIGHT - BOTTOM + 18, f"{cost.nodes:,}", "middle"))
    lines.append(text(18, HEIGHT / 2, "ms"))
    lines.append(text(WIDTH / 2, HEIGHT - 12, "nodes", "middle"))
    return lines


def chart(costs: Sequence[Cost]) -> str:
    curves: list[tuple[str, Callable[[Cost], float]]] = [
        ("a node other than the coordinator's", lambda cost: 1e3 * cost.member_seconds),
        ("the coordinator's, for each node", lambda cost: 1e3 * cost.coordinator_seconds / cost.nodes),
    ]  # fmt: skip
    high = 1.2 * max(of(cost) for _, of in curves for cost in costs)
    frame = Frame(costs, high)
    lines = axes(frame, costs)
    for n, (name, of) in enumerate(curves):
        colour = COLOURS[n + 1]
        points = [(frame.x(cost.nodes), frame.y(of(cost))) for cost in costs]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        lines.append(f'<circle cx="{LEFT + 6 + n * 320}" cy="38" r="4" fill="{colour}"/>')
        label = f"{name}: {of(costs[-1]):.2f} ms at {costs[-1].nodes:,}"
        lines.append(text(LEFT + 16 + n * 320, 42, label, colour=colour))
    return document(lines, HEIGHT)


if __name__ == "__main__":
    pathlib.Path(sys.argv[2]).write_text(chart(read(pathlib.Path(sys.argv[1]))))
    print(sys.argv[2])
