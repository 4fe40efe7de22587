"""Puts a snapshot into the objects of a training process.

The order keeps a failure harmless for as long as possible: everything is compared by name, shape
and type before a byte is written; tensors are read (each chunk checked by the library) before any
object is told; objects are told before the ranks agree; random numbers come last of all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from holdfast._client import Restore
from holdfast._devices import device_of, optimizer_device
from holdfast._derived import FLAG
from holdfast._collection import collection_paused
from holdfast._encoding import Decoder, tensor_names
from holdfast._extra import load_extra_state
from holdfast._state import (
    TrainingState,
    dotted,
    group_digests,
    load_rng_state,
)
from holdfast._sharded import Place, local, place_of
from holdfast._sidecar import SavedTensor, Sidecar, place_text
from holdfast._tensors import Entry, owners
from holdfast.errors import HoldfastError, StateError, StateMismatchError

_LISTED = 20


def _written_once(tensor: torch.Tensor) -> torch.Tensor:
    """The part of an expanded tensor that has memory of its own."""
    for dimension, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dimension] > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def _on_host(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Where the program has made a GPU torch's default device, too."""
    return torch.empty(tuple(shape), dtype=dtype, device="cpu")


class Transfer:
    """Tensors to be read from an image.  Those that are not contiguous go through a copy."""

    def __init__(self) -> None:
        self._wanted: dict[int, torch.Tensor] = {}
        self._through: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, index: int, target: torch.Tensor) -> None:
        target = target.detach()
        if target.numel() == 0:
            return
        if index in self._wanted:  # tied in the snapshot, separate here: read once
            self._through.append((target, self._wanted[index]))
        elif target.is_contiguous():
            self._wanted[index] = target
        else:
            plain = _on_host(tuple(target.shape), target.dtype)
            self._wanted[index] = plain
            self._through.append((target, plain))

    def add_cast(self, index: int, saved: SavedTensor, target: torch.Tensor) -> None:
        """The target gets the saved tensor in its own type."""
        if target.numel() == 0:
            return
        if index not in self._wanted:
            self._wanted[index] = _on_host(saved.shape, saved.dtype)
        self._through.append((target.detach(), self._wanted[index]))

    def run(self, restore: Restore, threads: int) -> None:
        if self._wanted:
            restore.load(
                list(self._wanted),
                [t.data_ptr() for t in self._wanted.values()],
                [t.numel() * t.element_size() for t in self._wanted.values()],
                [device_of(t) for t in self._wanted.values()],
                threads,
            )
        with torch.no_grad():
            for target, plain in self._through:
                own = _written_once(target)
                own.copy_(plain[tuple(slice(0, n) for n in own.shape)])


class Loader:
    """Loads one sidecar's snapshot.  load() may leave the state half written when it raises."""

    def __init__(self, state: TrainingState, sidecar: Sidecar) -> None:
        self._state = state
        self._sidecar = sidecar
        self._differences: list[str] = []
        self._transfer = Transfer()
        self._values: dict[str, torch.Tensor] = {}
        self._optimizer: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
        self._documents: dict[str, Any] = {}
        self.wrote = False

    def load(self, restore: Restore, threads: int) -> None:
        """Compares, reads the tensors, and hands every object its state (generators excepted)."""
        self._read_documents(restore, threads)
        self._plan_tensors()
        try:
            self._compare_documents()
        except (KeyError, TypeError, AttributeError) as error:
            raise StateError(f"the snapshot's state cannot be read: {error!r}") from error
        if self._differences:
            shown = self._differences[:_LISTED]
            more = len(self._differences) - len(shown)
            if more:
                shown.append(f"and {more} more")
            raise StateMismatchError(
                "the snapshot does not fit this training: " + "; ".join(shown)
            )
        self.wrote = True
        self._transfer.run(restore, threads)
        self._apply()

    def load_rng(self) -> None:
        """Sets the random number generators; nothing may draw from them afterwards."""
        if self._state.save_rng and "rng" in self._documents:
            load_rng_state(self._decoder().decode(self._documents["rng"]))

    # ---- comparing ----

    def _read_documents(self, restore: Restore, threads: int) -> None:
        """Documents that were too large travelled as tensors."""
        transfer = Transfer()
        large: dict[str, torch.Tensor] = {}
        for name, document in self._sidecar.documents.items():
            if isinstance(document, dict) and list(document) == ["$json"]:
                saved = self._saved_value(document["$json"])
                large[name] = _on_host(saved.shape, saved.dtype)
                transfer.add(saved.index, large[name])
                self._values[saved.name] = large[name]
            else:
                self._documents[name] = document
        transfer.run(restore, threads)
        for name, tensor in large.items():
            try:
                self._documents[name] = json.loads(tensor.numpy().tobytes())
            except ValueError as error:
                raise StateError(f'state "{name}" of the snapshot cannot be read') from error

    def _saved_value(self, name: str) -> SavedTensor:
        if name not in self._sidecar.tensors:
            raise StateError(f'the snapshot names a tensor "{name}" that it does not hold')
        return self._sidecar.tensors[name]

    @collection_paused()
    def _plan_tensors(self) -> None:
        saved = {n: t for n, t in self._sidecar.tensors.items() if not n.startswith(FLAG)}
        for name in self._values:
            saved.pop(name, None)
        for name in [n for d in self._documents.values() for n in tensor_names(d)]:
            if name not in self._values:
                value = self._saved_value(name)
                self._values[name] = _on_host(value.shape, value.dtype)
                self._transfer.add(self._sidecar.source(value), self._values[name])
            saved.pop(name, None)
        entries = self._state.entries()
        model = [e for e in entries if e.parameter is None]
        self._plan_model(model, owners(model), saved)
        for cast in self._state.derived.casts:
            self._plan_cast(cast.name, cast.tensor, saved.pop(cast.name, None))
        self._plan_optimizers(entries, saved)
        self._differences += [f'"{n}" is in the snapshot but not in the model' for n in saved]

    def _plan_model(
        self, entries: Sequence[Entry], owner: Sequence[int], saved: dict[str, SavedTensor]
    ) -> None:
        sources: dict[int, int] = {}
        for i, entry in enumerate(entries):
            found = saved.pop(entry.name, None)
            if found is None:
                self._plan_cast(entry.name, entry.tensor, None)
                continue
            if not self._fits(found, entry.tensor, entry.place):
                continue
            sources[i] = self._sidecar.source(found)
            if owner[i] == i:
                self._transfer.add(sources[i], entry.tensor)
            elif sources.get(owner[i]) != sources[i]:
                self._differences.append(
                    f'"{entry.name}" is tied to "{entries[owner[i]].name}" in the model, but not '
                    "in the snapshot"
                )

    def _plan_cast(self, name: str, tensor: torch.Tensor, found: SavedTensor | None) -> None:
        """A tensor that is derived here, in the snapshot, or in both."""
        if found is not None:
            if self._fits(found, tensor, None):
                self._transfer.add(self._sidecar.source(found), tensor)
            return
        source = self._sidecar.tensors.get(self._documents.get("derived", {}).get(name, ""))
        if source is None:
            self._differences.append(f'"{name}" is not in the snapshot')
        elif source.shape != tuple(tensor.shape):
            self._differences.append(
                f'"{name}" is made from "{source.name}" of {list(source.shape)} in the snapshot, '
                f"and is {list(tensor.shape)} here"
            )
        else:
            self._transfer.add_cast(self._sidecar.source(source), source, tensor)

    def _fits(self, saved: SavedTensor, tensor: torch.Tensor, place: Place | None) -> bool:
        if saved.fits(tensor.shape, place) and saved.dtype == tensor.dtype:
            return True
        here = str(list(tensor.shape))
        if place is not None:
            here = place_text(tensor.shape, place.shape, place.offset)
        self._differences.append(
            f'"{saved.name}" is {saved.dtype} {saved.text()} in the snapshot, {tensor.dtype} '
            f"{here} here"
        )
        return False

    def _plan_optimizers(
        self, entries: Iterable[Entry], saved: dict[str, SavedTensor]
    ) -> None:
        present = {e.name: e for e in entries if e.parameter is not None}
        ids = {name: i for i, name in self._state.known_names().items()}
        made: dict[int, torch.Tensor] = {}
        in_use: set[int] = set()
        for key, optimizer in self._state.optimizers.items():
            prefix = dotted("optimizer", key)
            own = {id(p): (p, g) for g in optimizer.param_groups for p in g["params"]}
            states = self._optimizer.setdefault(prefix, {})
            start = f"{prefix}.state."
            for name in [n for n in saved if n.startswith(start)]:
                parameter, _, field = name[len(start) :].rpartition(".")
                if ids.get(parameter) not in own:
                    continue
                tensor = saved.pop(name)
                source = self._sidecar.source(tensor)
                if source not in made:
                    owner, group = own[ids[parameter]]
                    part = place_of(name, owner)
                    if tensor.offset is not None and not tensor.fits(local(owner).shape, part):
                        self._differences.append(f'"{name}" is {tensor.text()}, unlike its parameter')
                        continue
                    made[source] = _optimizer_tensor(
                        tensor, present.get(name), owner, in_use,
                        optimizer_device(field, group, owner),
                    )
                    self._transfer.add(source, local(made[source]))
                states.setdefault(parameter, {})[field] = made[source]

    def _compare_documents(self) -> None:
        state = self._state
        names = state.known_names()
        wanted = {dotted("extra", key) for key in state.extra}
        for key, optimizer in state.optimizers.items():
            prefix = dotted("optimizer", key)
            wanted.add(prefix)
            document = self._documents.get(prefix)
            if document is not None and document["params"] != group_digests(optimizer, names):
                self._differences.append(
                    f'the parameter groups of "{prefix}" hold other parameters or another order'
                )
        held = {n for n in self._documents if n not in ("holdfast", "rng", "module_extra_state", "derived")}
        self._differences += [f'"{n}" is not in the snapshot' for n in sorted(wanted - held)]
        self._differences += [
            f'"{n}" is in the snapshot but was not given to Checkpointer'
            for n in sorted(held - wanted)
        ]

    # ---- handing over ----

    def _decoder(self) -> Decoder:
        return Decoder(self._values, self._sidecar.pickles if self._state.allow_pickle else None)

    def _apply(self) -> None:
        decoder = self._decoder()
        state = self._state
        for key, optimizer in state.optimizers.items():
            self._apply_optimizer(decoder, dotted("optimizer", key), optimizer)
        for path, module in state.extra_modules():
            document = self._documents.get("module_extra_state", {})
            if path in document:
                _call(f'module "{path}"', module.set_extra_state, decoder.decode(document[path]))
        for key, value in state.extra.items():
            name = dotted("extra", key)
            decoded = decoder.decode(self._documents[name])
            _call(f'"{name}"', lambda s, v=value: load_extra_state(v, s), decoded)

    def _apply_optimizer(
        self, decoder: Decoder, prefix: str, optimizer: torch.optim.Optimizer
    ) -> None:
        document = self._documents[prefix]
        names = self._state.known_names()
        parameters = {
            names[id(p)]: p
            for group in optimizer.param_groups
            for p in group["params"]
        }
        fields: dict[str, dict[Any, Any]] = dict(self._optimizer.get(prefix, {}))
        for name, pairs in document["state"].items():
            state = fields.setdefault(name, {})
            state.update((decoder.decode(k), decoder.decode(v)) for k, v in pairs)
        optimizer.state.clear()
        for name, state in fields.items():
            optimizer.state[parameters[name]] = state
        for group, raw in zip(optimizer.param_groups, document["param_groups"]):
            for key, value in decoder.decode(raw).items():
                present = group.get(key)
                if (
                    isinstance(present, torch.Tensor)
                    and isinstance(value, torch.Tensor)
                    and present.shape == value.shape
                ):
                    with torch.no_grad():
                        present.copy_(value)  # others may hold this very tensor
                else:
                    group[key] = value


def _optimizer_tensor(
    saved: SavedTensor,
    present: Entry | None,
    parameter: torch.Tensor,
    in_use: set[int],
    device: torch.device,
) -> torch.Tensor:
    """Where to read optimizer state into: what is there if it fits (and is not tied to what holds
    other state already), else memory laid out as the optimizer itself would have done."""
    if present is not None:
        tensor = present.tensor
        fits = saved.fits(tensor.shape, present.place) and tensor.dtype == saved.dtype
        if fits and tensor.untyped_storage().data_ptr() not in in_use:
            in_use.add(tensor.untyped_storage().data_ptr())
            held: torch.Tensor = present.container[present.key]
            return held
    place = place_of(saved.name, parameter)
    if saved.fits(local(parameter).shape, place) and device == parameter.device:
        return torch.empty_like(
            parameter, dtype=saved.dtype, memory_format=torch.preserve_format, requires_grad=False
        ).detach()
    return torch.empty(saved.shape, dtype=saved.dtype, device=device)


def _call(what: str, function: Any, state: Any) -> None:
    try:
        function(state)
    except HoldfastError:
        raise
    except Exception as error:
        raise StateError(f"{what} could not load its state: {error!r}") from error
