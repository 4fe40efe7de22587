"""What goes over the C interface, as Python values: states, layouts, captures, answers.

Threads: immutable after construction, except that a Capture's tensors belong to its snapshot.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from holdfast import _native

#: The device number of host memory.
HOST = -1
#: (device, handle of a CUDA stream)
Streams = Sequence[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Incarnation:
    """One start of a job; what rank 0 hands to all ranks."""

    job_uid: bytes
    number: int
    token: int


class TensorSpec(NamedTuple):
    """One tensor of a layout.  alias_of: an earlier tensor that is the same memory."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    tensor_class: int
    replica_id: int = 0
    alias_of: str | None = None
    #: The CUDA device that holds it, or HOST.
    device: int = HOST
    #: Of the whole tensor, where "shape" is a box of it that starts at "offset".
    whole: tuple[int, ...] | None = None
    offset: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class StateItem:
    """Named non-tensor state: a JSON document, or pickled bytes."""

    name: str
    value: str | bytes


@dataclasses.dataclass(frozen=True)
class Stats:
    """Counters of this process since it connected.  Times are sums in nanoseconds; steps are -1
    where there is none yet."""

    begun: int
    sealed: int
    skipped: int
    torn: int
    failed: int
    copied_bytes: int
    copy_ns: int
    fence_wait_ns: int
    snapshot_ns: int
    last_copy_ns: int
    last_fence_wait_ns: int
    last_snapshot_ns: int
    reconnects: int
    last_begun_step: int
    last_sealed_step: int
    last_complete_step: int
    last_durable_step: int
    #: How long updates stood still on a GPU because copies were not done.
    device_wait_ns: int
    last_device_wait_ns: int
    #: Slots that a GPU writes by itself, and those that it could not be given: copies into them
    #: take a multiple of the time.
    pinned_slots: int
    unpinned_slots: int
    #: Of frozen tensors; copied_bytes has all others.
    static_copied_bytes: int
    #: What each snapshot takes, and what all of them share: the frozen tensors.
    image_bytes: int
    static_bytes: int
    #: Copied from GPUs into memory that could not be pinned, and how long that took.
    unpinned_bytes: int
    unpinned_copy_ns: int
    connected: bool
    fenced: bool
    #: Why copies are slower, or checked less, than they could be, one reason a line; empty: they are
    #: not.
    note: str

    @property
    def unpinned_bytes_per_second(self) -> float:
        """The rate of copies into memory that could not be pinned; 0 where there were none."""
        return self.unpinned_bytes * 1e9 / self.unpinned_copy_ns if self.unpinned_copy_ns else 0.0


@dataclasses.dataclass(frozen=True)
class Begun:
    """What the library did with a snapshot: why it was skipped (None: it started), and the bytes it
    copies: of the tensors that change, and of the frozen ones, which is 0 after the first."""

    skipped: str | None
    bytes: int = 0
    static_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Drained:
    """What drain() left behind: the newest sealed snapshot (step -1: none)."""

    incarnation: int
    step: int
    durable: bool
    reason: str


@dataclasses.dataclass(frozen=True)
class Choice:
    """What all ranks are to restore in this attempt; nothing where step is None."""

    attempt: int
    incarnation: int
    step: int | None
    source: str
    log: tuple[str, ...]


class NativeStrides:
    """The hf_strides array of a layout: (index, strides) of its non-contiguous tensors."""

    def __init__(self, strides: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        self.count = len(strides)
        self.array = (_native.StridesStruct * max(1, self.count))()
        # ctypes fields of pointer type do not keep their arrays alive by themselves.
        self._kept = [(ctypes.c_int64 * len(s))(*s) for _, s in strides]
        for i, (tensor, values) in enumerate(strides):
            pointer = ctypes.cast(self._kept[i], ctypes.POINTER(ctypes.c_int64))
            self.array[i] = _native.StridesStruct(tensor, len(values), pointer)


@dataclasses.dataclass(frozen=True, slots=True)
class Capture:
    """What one snapshot hands over: the address of "count" addresses of tensors, in the order of
    the layout.  What they point to must stay as hf_snapshot says."""

    address: int
    count: int
    strides: NativeStrides
    items: Sequence[StateItem]
    #: Tensors made for this snapshot, held here; copied before hf_snapshot returns.
    staged: Mapping[str, torch.Tensor]
    #: One stream for each device that holds tensors.
    streams: Streams = ()
