"""Tensors of which each rank holds a part: torch's DTensor, as FSDP2 makes them.

A rank saves its local tensor, and the layout says which box of the whole that is.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from holdfast.errors import StateError


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Which box of a whole tensor a local one is: its own shape, from this offset on."""

    shape: tuple[int, ...]  # of the whole
    offset: tuple[int, ...]
    #: Ranks that hold the same box count from 0.
    replica: int = 0


def is_sharded(tensor: Any) -> bool:
    # Whoever has made a DTensor has imported this module of torch.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Any) -> torch.Tensor:
    """What this rank holds of a tensor: the tensor itself, where it is a plain one."""
    held: torch.Tensor = tensor._local_tensor if is_sharded(tensor) else tensor
    return held


def place_of(name: str, tensor: Any) -> Place | None:
    """None for a plain tensor.  Raises StateError for what is no box of the whole."""
    if not is_sharded(tensor):
        return None
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        raise StateError(f'tensor "{name}" is on a device mesh that this rank is not part of')
    dims = [_shard_dim(name, placement) for placement in tensor.placements]
    shape = tuple(tensor.shape)
    offset, length, replica = box(shape, dims, tuple(mesh.shape), coordinate)
    if length != tuple(local(tensor).shape):
        raise StateError(
            f'tensor "{name}" of {list(shape)} is sharded in a way that this version does not '
            f"know: {list(length)} are expected here, it has {list(local(tensor).shape)}"
        )
    return Place(shape, offset, replica)


def _shard_dim(name: str, placement: Any) -> int | None:
    """The dimension that a placement cuts; None where it replicates."""
    kind = type(placement).__name__
    if kind == "Replicate":
        return None
    if kind != "Shard":
        raise StateError(
            f'tensor "{name}" is a DTensor placed as {placement}, which this version cannot save: '
            "only Shard and Replicate"
        )
    return int(placement.dim)


def box(
    shape: Sequence[int],
    dims: Sequence[int | None],
    mesh: Sequence[int],
    coordinate: Sequence[int],
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Offset and length of what the rank at "coordinate" holds, and its number among those that
    hold the same.  Each dimension of the mesh cuts dimension "dims" of what the ones before it
    left, as torch.chunk does."""
    offset, length, replica = [0] * len(shape), list(shape), 0
    for dim, size, at in zip(dims, mesh, coordinate):
        if dim is None:
            replica = replica * size + at
            continue
        each = -(-length[dim] // size)
        first = min(at * each, length[dim])
        offset[dim] += first
        length[dim] = min(each, length[dim] - first)
    return tuple(offset), tuple(length), replica


class ShardedModules:
    """Modules whose parameters FSDP2 gathers for a forward, and the way back to each rank's part.

    After a forward the root's parameters stay gathered until the backward, and so do those of a
    group with reshard_after_forward=False: plain, whole tensors stand in the modules then, not
    those that the optimizer has, and their memory goes with the next backward.
    """

    def __init__(self) -> None:
        self._modules: list[Any] = []

    def look_anew(self, modules: Iterable[torch.nn.Module]) -> None:
        """Finds them in "modules" and all that is in these, and reshards them."""
        # Whoever has called fully_shard has imported one of them: the second before torch 2.6.
        places = ("torch.distributed.fsdp", "torch.distributed._composable.fsdp")
        found = [getattr(sys.modules.get(place), "FSDPModule", None) for place in places]
        kinds = tuple(kind for kind in found if kind is not None)
        self._modules = [m for module in modules for m in module.modules() if isinstance(m, kinds)]
        self.reshard()

    def reshard(self) -> None:
        """On all ranks at the same point of the program, whatever their daemons do: a rank that did
        not would stay away from the all-gather of the next forward.

        Not from within a forward or a backward: the parameters are in use there.
        """
        # A graph that awaits its backward is none the worse: like after a forward that reshards by
        # itself, the parameters are gathered for it once more, into the storage that it holds.
        for module in self._modules:
            module.reshard()  # nothing to do where it is


__all__ = ["Place", "ShardedModules", "box", "is_sharded", "local", "place_of"]
