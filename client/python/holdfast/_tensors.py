"""The tensors of a layout: which can be saved, and where each lies at the moment of a snapshot.

A snapshot must cost the training thread little, so the slow work (names, shapes, aliases) is done
once, and each snapshot only asks whether anything moved: one list of tensors fetched from the
dicts that hold them, one of addresses, one of strides.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from holdfast._sharded import Place, is_sharded, local, place_of
from holdfast.errors import StateError

STABLE = 1
STAGED = 2
CONSTANT = 3  # frozen: copied once for each layout

#: torch's element types -> hf_dtype; those that this torch does not know are left out.
DTYPES: dict[torch.dtype, int] = {
    getattr(torch, name): number
    for name, number in [
        ("bool", 1), ("uint8", 2), ("int8", 3), ("int16", 4), ("uint16", 5), ("int32", 6),
        ("uint32", 7), ("int64", 8), ("uint64", 9), ("float16", 10), ("bfloat16", 11),
        ("float32", 12), ("float64", 13), ("float8_e4m3fn", 14), ("float8_e5m2", 15),
        ("float8_e8m0fnu", 16), ("complex64", 17), ("complex128", 18), ("float8_e4m3fnuz", 19),
        ("float8_e5m2fnuz", 20), ("float4_e2m1fn_x2", 21),
    ]
    if hasattr(torch, name)
}

#: Names of the same types in a sidecar's JSON.
DTYPE_NAMES: dict[str, torch.dtype] = {
    name: dtype
    for name, number in [
        ("BOOL", 1), ("U8", 2), ("I8", 3), ("I16", 4), ("U16", 5), ("I32", 6), ("U32", 7),
        ("I64", 8), ("U64", 9), ("F16", 10), ("BF16", 11), ("F32", 12), ("F64", 13),
        ("F8_E4M3", 14), ("F8_E5M2", 15), ("F8_E8M0", 16), ("C64", 17), ("C128", 18),
        ("F8_E4M3FNUZ", 19), ("F8_E5M2FNUZ", 20), ("F4_X2", 21),
    ]
    for dtype, other in DTYPES.items()
    if other == number
}


class LayoutChanged(Exception):
    """The tensors are no longer those of the layout; it must be built anew."""


def check_tensor(name: str, tensor: Any) -> None:
    """Raises StateError where this tensor cannot be saved, naming it and what to do."""
    kind = type(tensor).__name__
    if kind == "DTensor" or hasattr(tensor, "_local_tensor"):
        raise StateError(
            f'tensor "{name}" is a DTensor: outside of models and optimizers these cannot be saved'
        )
    if torch.nn.parameter.is_lazy(tensor):
        raise StateError(f'tensor "{name}" is not initialised yet: run the model once before')
    if hasattr(type(tensor), "__tensor_flatten__"):
        raise StateError(f'tensor "{name}" is a {kind}, whose parts are not in one place')
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise StateError(f'tensor "{name}" is sparse or quantised, which cannot be saved')
    if tensor.device.type not in ("cpu", "cuda"):
        raise StateError(
            f'tensor "{name}" is on {tensor.device}: only tensors on the CPU and on CUDA devices '
            "can be saved"
        )
    if tensor.dtype not in DTYPES:
        raise StateError(f'tensor "{name}" has the type {tensor.dtype}, which cannot be saved')
    if tensor.is_conj() or tensor.is_neg():
        raise StateError(f'tensor "{name}" is a conjugate view: store its resolve_conj() instead')


# A tuple: there are thousands, made anew by every full look, and a dataclass takes four times as long.
class Entry(NamedTuple):
    """A tensor that lives at container[key] for the life of the layout."""

    name: str
    container: Any
    key: Any
    #: What this rank holds of it.
    tensor: torch.Tensor
    tensor_class: int
    replica_id: int = 0
    #: Optimizer state: the name of the parameter that it belongs to.
    parameter: str | None = None
    #: Where the tensor is a part of a sharded one.
    place: Place | None = None


def entry(
    name: str,
    container: Any,
    key: Any,
    found: Any,
    tensor_class: int,
    replica_id: int,
    parameter: str | None = None,
) -> Entry:
    """Of what was found at container[key]."""
    place = place_of(name, found)
    replica = replica_id if place is None else place.replica
    return Entry(name, container, key, local(found), tensor_class, replica, parameter, place)


def owners(entries: Sequence[Entry]) -> list[int]:
    """For each entry the index of the first that is the same memory in the same shape: itself, or
    the tensor it is tied to.  Views of parts of one storage are tensors of their own."""
    first: dict[tuple[Any, ...], int] = {}
    result = []
    for i, entry in enumerate(entries):
        t = entry.tensor
        if t.numel() == 0:
            result.append(i)
            continue
        place = (t.data_ptr(), t.dtype, tuple(t.shape), t.stride())
        result.append(first.setdefault(place, i))
    return result


def classes(entries: Sequence[Entry]) -> list[int]:
    """The class of each entry.  Tensors that share a storage get the most careful class of them:
    a parameter that is a view of a buffer may change in any forward, a frozen one that is a view of
    a trained one in any update."""
    careful = {CONSTANT: 0, STABLE: 1, STAGED: 2}
    found: dict[int, int] = {}
    for e in entries:
        place = e.tensor.untyped_storage().data_ptr()
        found[place] = max(found.get(place, CONSTANT), e.tensor_class, key=careful.__getitem__)
    return [found[e.tensor.untyped_storage().data_ptr()] for e in entries]


def _getters(entries: Sequence[Entry]) -> list[tuple[Callable[[Any], Sequence[Any]], Any]]:
    """Functions that fetch all entries in order, neighbours in one container by one call."""
    result: list[tuple[Callable[[Any], Sequence[Any]], Any]] = []
    for _, group in itertools.groupby(entries, key=lambda e: id(e.container)):
        same = list(group)
        keys = [e.key for e in same]
        # itemgetter gives a tuple for several keys only.
        one = functools.partial(_fetch_one, keys[0])
        result.append((operator.itemgetter(*keys) if keys[1:] else one, same[0].container))
    return result


def _fetch_one(key: Any, container: Any) -> tuple[Any]:
    return (container[key],)


class Watch:
    """Fetches the tensors of a layout and notices when they are no longer the same.

    refresh() is for each snapshot.  It raises LayoutChanged where names, shapes, types or ties
    changed; tensors that were only replaced by others of the same shape are taken over.
    The storages of the tensors are held, so that no copy reads freed memory; release() lets go of
    those that the program replaces all the time.
    """

    def __init__(self, entries: Sequence[Entry], owner: Sequence[int]) -> None:
        self._getters = _getters(entries)
        self._names = [e.name for e in entries]
        self._sharded = [i for i, e in enumerate(entries) if e.place is not None]
        self._tensors: list[torch.Tensor | None] = [e.tensor for e in entries]
        self._storages: list[Any] = [e.tensor.untyped_storage() for e in entries]
        self._dtypes = [e.tensor.dtype for e in entries]
        self._devices = [e.tensor.device for e in entries]
        self._shapes = [tuple(e.tensor.shape) for e in entries]
        self._strides = [e.tensor.stride() for e in entries]
        self._sizes = [e.tensor.numel() for e in entries]
        # Asked for in place of strides, which take a tuple for each tensor.
        self._dense = [e.tensor.is_contiguous() for e in entries]
        self._sparse = [i for i, dense in enumerate(self._dense) if not dense]
        self.addresses: list[int] = [e.tensor.data_ptr() for e in entries]
        self._ties = [(i, o) for i, o in enumerate(owner) if i != o]
        # Replaced between the last two snapshots: their old memory is not held beyond the fence.
        self._volatile: set[int] = set()

    def refresh(self) -> bool:
        """Whether an address changed since the last call."""
        try:
            now: list[Any] = []
            for get, container in self._getters:
                now += get(container)
        except (KeyError, IndexError) as error:
            raise LayoutChanged from error
        for i in self._sharded:
            if not is_sharded(now[i]):
                raise LayoutChanged
            now[i] = local(now[i])
        if not all(map(operator.is_, now, self._tensors)):
            return self._take_over(now)
        addresses = list(map(torch.Tensor.data_ptr, now))
        if (
            addresses == self.addresses
            and list(map(torch.Tensor.numel, now)) == self._sizes
            and list(map(torch.Tensor.is_contiguous, now)) == self._dense
            and all(now[i].stride() == self._strides[i] for i in self._sparse)
        ):
            return False
        return self._take_over(now)

    def _take_over(self, now: list[Any]) -> bool:
        changed = False
        for i, tensor in enumerate(now):
            if not isinstance(tensor, torch.Tensor) or is_sharded(tensor):
                raise LayoutChanged
            same = tensor is self._tensors[i]
            address = tensor.data_ptr()
            if (
                tensor.stride() != self._strides[i]
                or tensor.shape != self._shapes[i]
                or tensor.dtype != self._dtypes[i]
                or tensor.device != self._devices[i]
            ):
                raise LayoutChanged
            if same and address == self.addresses[i]:
                continue
            if not same:
                check_tensor(self._names[i], tensor)
            if address == self.addresses[i] and self._tensors[i] is None:
                self._volatile.discard(i)  # it stayed where it was: hold it again
            else:
                self._volatile.add(i)
            changed = changed or address != self.addresses[i]
            self._tensors[i] = tensor
            self._storages[i] = tensor.untyped_storage()
            self.addresses[i] = address
        if any(self.addresses[i] != self.addresses[o] for i, o in self._ties):
            raise LayoutChanged
        return changed

    def tensor(self, index: int) -> torch.Tensor:
        """The tensor as refresh() saw it."""
        found = self._tensors[index]
        assert found is not None
        return found.detach()

    def release(self) -> None:
        """The copies are done: lets go of tensors that are replaced at every step."""
        for i in self._volatile:
            self._tensors[i] = None
            self._storages[i] = None
