#!/usr/bin/env python3
"""Draws what the GPU did in a trace of run.py, as an SVG: kernels of the training, and the copies to
the host that go on under them.

    python3 bench/gpu/timeline.py DIR/trace.json.gz timeline.svg
"""

from __future__ import annotations

import gzip
import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

from plot import LEFT, RIGHT, WIDTH, document, text

ROW = 44
TOP = 60
COLOURS = {"kernel": "#2563eb", "copy": "#dc2626", "other copy": "#d97706"}


def kind_of(event: dict[str, Any]) -> str | None:
    """What of the device an event is, None for what is not shown."""
    if event.get("ph") != "X":
        return None
    if event.get("cat") == "kernel":
        return "kernel"
    if event.get("cat") in ("gpu_memcpy", "gpu_memset"):
        return "copy" if "DtoH" in str(event.get("name")) else "other copy"
    return None


def lanes(events: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(stream, kind) -> beginnings and ends in microseconds, in order."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for event in events:
        kind = kind_of(event)
        if kind is not None:
            start = float(event["ts"])
            place = (f"stream {event.get('tid')}", kind)
            found.setdefault(place, []).append((start, start + float(event.get("dur", 0))))
    return {place: sorted(spans) for place, spans in sorted(found.items())}


def joined(spans: list[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Spans with gaps that could not be seen closed."""
    result: list[tuple[float, float]] = []
    for start, end in spans:
        if result and start - result[-1][1] < gap:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def draw(events: Iterable[dict[str, Any]]) -> str:
    found = lanes(events)
    # Streams with next to nothing on them say nothing.
    busy = {place: sum(e - s for s, e in spans) for place, spans in found.items()}
    shown = {p: s for p, s in found.items() if busy[p] > 0.005 * max(busy.values())}
    if not shown:
        raise SystemExit("the trace has nothing of a GPU")
    first = min(spans[0][0] for spans in shown.values())
    last = max(end for spans in shown.values() for _, end in spans)
    scale = (WIDTH - LEFT - RIGHT - 60) / (last - first)
    lines = [text(LEFT, 26, f"{(last - first) / 1e3:.0f} ms of training, a snapshot in each step")]
    for n, ((stream, kind), spans) in enumerate(shown.items()):
        y = TOP + n * ROW
        lines.append(text(LEFT + 50, y + 18, f"{stream}: {kind}", "end"))
        for start, end in joined(spans, 0.3 / scale):
            x = LEFT + 60 + (start - first) * scale
            width = max(0.3, (end - start) * scale)
            lines.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="28" '
                         f'fill="{COLOURS[kind]}"/>')  # fmt: skip
    return document(lines, TOP + len(shown) * ROW + 10)


def main() -> None:
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    with gzip.open(source, "rt") as file:
        trace = json.load(file)
    target.write_text(draw(trace["traceEvents"]))


if __name__ == "__main__":
    main()
