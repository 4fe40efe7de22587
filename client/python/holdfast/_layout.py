"""A layout as it was registered with the daemon, and what each snapshot hands over of it."""

from __future__ import annotations

import array
from collections.abc import Mapping

import torch

from holdfast._collection import collection_paused
from holdfast._derived import FLAG
from holdfast._devices import StreamSource, TorchStreams, current_streams, device_of, devices_of
from holdfast._state import TrainingState
from holdfast._tensors import DTYPES, STAGED, LayoutChanged, Watch, classes, owners
from holdfast._values import HOST, Capture, NativeStrides, TensorSpec
from holdfast.errors import StateError


_Signature = list[tuple[str, torch.dtype, torch.Size, tuple[int, ...], int]]


def _signature(tensors: Mapping[str, torch.Tensor]) -> _Signature:
    """What a layout says of them.  Where each lies, too: an address of a device must never be read as
    one of the host."""
    return [(n, t.dtype, t.shape, t.stride(), device_of(t)) for n, t in tensors.items()]


class Layout:
    """Names, types and shapes of all tensors of this process, as they are at construction.

    Fixed tensors come first, then those inside non-tensor state, which are fetched anew at each
    snapshot.  capture() raises LayoutChanged when another layout is due.
    """

    @collection_paused()
    def __init__(self, state: TrainingState, streams: StreamSource | None = None) -> None:
        self._state = state
        self._streams: StreamSource = streams or TorchStreams()
        entries = state.entries()
        owner = owners(entries)
        specs = [
            TensorSpec(
                e.name,
                DTYPES[e.tensor.dtype],
                tuple(e.tensor.shape),
                tensor_class,
                e.replica_id,
                entries[o].name if o != i else None,
                device_of(e.tensor),
                None if e.place is None else e.place.shape,
                None if e.place is None else e.place.offset,
            )
            for i, (e, o, tensor_class) in enumerate(zip(entries, owner, classes(entries)))
        ]
        strides = [
            (i, e.tensor.stride())
            for i, e in enumerate(entries)
            if owner[i] == i and e.tensor.numel() and not e.tensor.is_contiguous()
        ]
        # A device copies whole ranges: what is not contiguous there goes through a copy.
        self._through = [i for i, _ in strides if device_of(entries[i].tensor) != HOST]
        strides = [pair for pair in strides if pair[0] not in set(self._through)]
        self._copies: list[torch.Tensor] = []
        # Aliases and empty tensors have no bytes to read.
        self._hidden = [owner[i] != i or e.tensor.numel() == 0 for i, e in enumerate(entries)]
        self._watch = Watch(entries, owner)
        _, dynamic = state.values()
        fixed = {e.name for e in entries}
        for name, tensor in dynamic.items():
            if name in fixed:
                raise StateError(
                    f'"{name}" names a tensor of the model and one of the extra state: give the '
                    'model a name (model={"name": module})'
                )
            device = device_of(tensor)
            if tensor.numel() and not tensor.is_contiguous() and device == HOST:
                strides.append((len(specs), tensor.stride()))
            specs.append(
                TensorSpec(
                    name, DTYPES[tensor.dtype], tuple(tensor.shape), STAGED, device=device
                )
            )
        #: The CUDA devices that hold tensors.
        self.devices = devices_of([e.tensor for e in entries] + list(dynamic.values()))
        self.specs = specs
        #: Indices of those that must be zero in every snapshot.
        self.zeros = [i for i, spec in enumerate(specs) if spec.name.startswith(FLAG)]
        self._fixed = len(entries)
        self._dynamic = _signature(dynamic)
        self._strides = NativeStrides(strides)
        self._addresses = array.array("Q", bytes(8 * len(specs)))
        self._store_fixed()

    def _store_fixed(self) -> None:
        self._addresses[: self._fixed] = array.array(
            "Q", [0 if h else a for h, a in zip(self._hidden, self._watch.addresses)]
        )

    def capture(self) -> Capture:
        """The state as it is now."""
        self._state.sharded.reshard()
        if not self._state.unchanged() or self._state.derived.drifted():
            raise LayoutChanged
        if self._watch.refresh():
            self._store_fixed()
        items, dynamic = self._state.values()
        if _signature(dynamic) != self._dynamic:
            raise LayoutChanged
        self._copies = [self._watch.tensor(i).contiguous() for i in self._through]
        for i, copy in zip(self._through, self._copies):
            self._addresses[i] = copy.data_ptr()
        dynamic = {
            name: t if device_of(t) == HOST else t.contiguous() for name, t in dynamic.items()
        }
        self._addresses[self._fixed :] = array.array(
            "Q", [t.data_ptr() if t.numel() else 0 for t in dynamic.values()]
        )
        address, count = self._addresses.buffer_info()
        return Capture(
            address, count, self._strides, items, dynamic,
            current_streams(self.devices, self._streams),
        )

    def streams(self) -> list[tuple[int, int]]:
        """The streams that this thread works on now, one for each device of the layout."""
        return current_streams(self.devices, self._streams)

    def release(self) -> None:
        """The copies of the last capture are done."""
        self._copies = []
        self._watch.release()
