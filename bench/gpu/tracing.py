"""A trace of some iterations with a snapshot at each, for Perfetto and for timeline.py."""

from __future__ import annotations

import pathlib

import torch
from report import Row

from blocks import Ours
from model import Training
from settings import MIB

ITERATIONS = 3


def trace(what: str, training: Training, ours: Ours, path: pathlib.Path) -> Row:
    """Writes the trace to "path"; the row that says so."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if training.device.cuda:
        kinds = [torch.profiler.ProfilerActivity.CUDA]
    ours.begin()

    def iterate() -> None:
        training.iterate(ours.before_update)
        ours.after_update()

    iterate()
    with torch.profiler.profile(activities=kinds) as profile:
        for _ in range(ITERATIONS):
            iterate()
        training.device.sync()
    ours.end()
    profile.export_chrome_trace(str(path))
    return Row(what, "MiB", path.stat().st_size / MIB, note=path.name)
