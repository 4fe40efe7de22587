"""Python values as the C structures of _native.py."""

from __future__ import annotations

import array
import ctypes
import itertools
import os
from collections.abc import Sequence
from typing import Any

from holdfast import _native
from holdfast._tiers import Tier
from holdfast._values import HOST, Streams, TensorSpec

_MAX_MS = 2**32 - 1


def text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")


def milliseconds(seconds: float) -> int:
    return int(max(0.0, min(_MAX_MS, seconds * 1000)))


def stream_structs(streams: Streams) -> Any:
    structs = (_native.StreamStruct * max(1, len(streams)))()
    for i, (device, handle) in enumerate(streams):
        structs[i] = _native.StreamStruct(device, 0, handle)
    return structs


def tier_structs(tiers: Sequence[Tier]) -> ctypes.Array[_native.TierStruct]:
    roots = (_native.TierStruct * max(1, len(tiers)))()
    for i, tier in enumerate(tiers):
        roots[i] = _native.TierStruct(
            os.path.abspath(tier.root).encode(),
            int(tier.node_local),
            tier.every,
            tier.seconds,
            tier.keep_last,
            tier.keep_every,
        )
    return roots


def _numbers(spec: TensorSpec) -> tuple[int, ...]:
    """Its shape, that of the whole, and the box that it is of that."""
    if spec.whole is None:
        return (*spec.shape, *spec.shape)
    return (*spec.shape, *spec.whole, *(spec.offset or ()), *spec.shape)


def tensor_structs(
    specs: Sequence[TensorSpec],
) -> tuple[ctypes.Array[_native.TensorStruct], array.array[int]]:
    """Also the numbers that they point to, which must live as long."""
    tensors = (_native.TensorStruct * max(1, len(specs)))()
    numbers = array.array("Q", itertools.chain.from_iterable(map(_numbers, specs)))
    at, _ = numbers.buffer_info()
    for i, spec in enumerate(specs):
        size = 8 * len(spec.shape)
        shape, whole, box = at, at + size, at + 2 * size
        at += size * (2 if spec.whole is None else 4)
        tensors[i] = _native.TensorStruct(
            name=spec.name.encode(),
            dtype=spec.dtype,
            tensor_class=spec.tensor_class,
            global_ndim=len(spec.shape),
            local_ndim=len(spec.shape),
            global_shape=whole,
            local_shape=shape,
            box_count=int(spec.whole is not None),
            boxes=box,
            replica_id=spec.replica_id,
            alias_of=None if spec.alias_of is None else spec.alias_of.encode(),
            on_device=int(spec.device != HOST),
            device=max(spec.device, 0),
        )
    return tensors, numbers


__all__ = ["milliseconds", "stream_structs", "tensor_structs", "text", "tier_structs"]
