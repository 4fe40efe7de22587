"""A dry run's device: the CUDA engine on the simulated runtime that the tests have, over state in
the host's memory.

$HOLDFAST_LIBRARY is libholdfast_sim.so then (tests/support/cuda_sim).  What torch does on the host
is the work of the default stream, in its order; what only a GPU has (its speed, its kernels, its
driver) is not there.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys

import torch

import holdfast._devices
import holdfast._layout
import holdfast._restore
from holdfast._values import HOST

DEFAULT_STREAM = 0


class SimulatedError(Exception):
    pass


def library() -> ctypes.CDLL:
    path = os.environ.get("HOLDFAST_LIBRARY", "")
    loaded = ctypes.CDLL(path)
    try:
        loaded.hf_sim_violations.restype = ctypes.c_char_p
    except AttributeError:
        raise SimulatedError(f"{path} is no libholdfast_sim.so") from None
    return loaded


def use(index: int) -> None:
    """From now on the state counts as on device "index".  What a training on a GPU has on the host
    (counts of steps, generators' states) stays there."""
    library()
    atexit.register(_judge)

    def device_of(tensor: torch.Tensor) -> int:
        on_host = tensor.dim() == 0 or tensor.dtype == torch.uint8
        return HOST if on_host else index

    for module in (holdfast._devices, holdfast._layout, holdfast._restore):
        setattr(module, "device_of", device_of)
    setattr(holdfast._devices.TorchStreams, "current", lambda self, device: DEFAULT_STREAM)


def hold_copies(held: bool) -> None:
    """Copies to the host wait."""
    library().hf_sim_hold_copies(int(held))


def die(landing_ms: int) -> None:
    """Kills this process; what was queued lands so much later."""
    library().hf_sim_die(ctypes.c_uint32(landing_ms))


def _judge() -> None:
    """At the end of a process: one that did what CUDA would punish has failed."""
    found = library()
    single, batches = (found.hf_sim_calls(b"cudaMemcpy" + how) for how in (b"Async", b"BatchAsync"))
    print(f"  simulated runtime: {batches} batches and {single} single copies", flush=True)
    violations: bytes = found.hf_sim_violations()
    if violations:
        print(violations.decode(), file=sys.stderr, flush=True)
        os._exit(3)
