"""Tensors that are casts of others: not copied, made again at restore, bit for bit.

Mixed-precision optimizers keep fp32 master weights and write their casts into the model after each
update.  The masters are saved anyway, so the casts need not be.  What does not equal the cast of its
source is not derived, and is saved like all others from then on: all of each tensor is compared when
its layout is made, a sample at every snapshot.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence

import torch

from holdfast._sharded import is_sharded
from holdfast._tensors import Entry
from holdfast.errors import StateError

_log = logging.getLogger("holdfast")
Derived = Iterable[tuple[torch.Tensor, torch.Tensor]]

#: Compared at each snapshot: so many tensors, the next ones at the next, and elements of each.
SAMPLED_TENSORS = 16
SAMPLED_ELEMENTS = 256
_NAMED = 8
#: A tensor of this name for each device: not 0 where the sample of the very snapshot differed, which
#: the library looks at before it seals.
FLAG = "derived.differs."


@dataclasses.dataclass(frozen=True, slots=True)
class Cast:
    """tensor is source.to(tensor.dtype) after each update; names as in the state."""

    name: str
    tensor: torch.Tensor
    source: torch.Tensor
    source_name: str = ""

    def equals(self, start: int = 0, step: int = 1) -> torch.Tensor:
        """Whether elements start, start + step, ... are the cast's, bit for bit: one bool on the
        device, without a wait for it."""
        mine = self.tensor.detach().reshape(-1)[start::step].contiguous()
        cast = self.source.detach().reshape(-1)[start::step].to(mine.dtype)
        return (mine.view(torch.uint8) == cast.view(torch.uint8)).all()


_Answer = tuple[torch.Tensor, torch.cuda.Event | None, list[Cast]]


class DerivedTensors:
    """The pairs that the user declared.  Threads: the training thread."""

    def __init__(self, pairs: Derived) -> None:
        self._sources: dict[int, torch.Tensor] = {}
        self._held: list[torch.Tensor] = []  # an id names a tensor only as long as it lives
        for pair in pairs:
            tensor, source = _checked(pair)
            self._sources[id(tensor)] = source
            self._held.append(tensor)
        self.casts: list[Cast] = []
        self._next = 0  # cast that the next sample begins with
        self._starts: dict[str, int] = {}  # element that it begins with, by name
        self._flags: dict[str, torch.Tensor] = {}
        # Of the sample before: flags on their way to the host, events that say when they are there,
        # and the casts that they speak of.
        self._under_way: list[_Answer] = []

    def look_anew(self) -> None:
        self.casts = []
        self._under_way = []

    def takes(self, name: str, tensor: torch.Tensor) -> bool:
        """Whether the tensor is derived: then it has no entry."""
        source = self._sources.get(id(tensor))
        if source is None:
            return False
        self.casts.append(Cast(name, tensor, source))
        return True

    def bind(self, entries: Iterable[Entry]) -> None:
        """Finds the name of each source.  StateError where one is not saved itself."""
        found = {id(cast.tensor) for cast in self.casts}
        for tensor in self._held:
            if id(tensor) in self._sources and id(tensor) not in found:
                raise StateError(
                    f"derived: a tensor of {list(tensor.shape)}, {tensor.dtype}, is no parameter of a "
                    "model that was given to Checkpointer"
                )
        if not self.casts:
            return
        names = {id(e.tensor): e.name for e in entries}
        for i, cast in enumerate(self.casts):
            if id(cast.source) not in names:
                raise StateError(
                    f'derived: the tensor that "{cast.name}" is made from is not saved: it must be '
                    "a parameter of an optimizer, or of a model, that was given to Checkpointer"
                )
            self.casts[i] = dataclasses.replace(cast, source_name=names[id(cast.source)])
        devices = {str(cast.tensor.device): cast.tensor.device for cast in self.casts}
        self._flags = {
            FLAG + name: torch.zeros(1, dtype=torch.uint8, device=device)
            for name, device in sorted(devices.items())
            if answers_later(device)
        }

    def document(self) -> dict[str, str]:
        return {cast.name: cast.source_name for cast in self.casts}

    def flags(self) -> Mapping[str, torch.Tensor]:
        """Part of the snapshot that the last sample was taken for."""
        return self._flags if self.casts else {}

    def undo_differing(self) -> bool:
        """Compares all of every tensor, and waits for it; whether some are not derived after all."""
        return self._undo([cast for cast in self.casts if not bool(cast.equals())])

    def drifted(self) -> bool:
        """The sample of a snapshot.  Whether tensors stopped being derived: the layout is another.

        On the host the answer is of this snapshot.  A device is not waited for: its answer travels in
        the snapshot, which is given up where it is bad, and is looked at before the next.
        """
        if not self.casts:
            return False
        differing = self._answers()
        by_device: dict[str, list[Cast]] = {}
        for cast in self._sample():
            by_device.setdefault(str(cast.tensor.device), []).append(cast)
        for flag in self._flags.values():
            flag.zero_()
        for device, casts in by_device.items():
            if FLAG + device in self._flags:
                self._ask_device(self._flags[FLAG + device], casts)
            else:
                differing += [cast for cast in casts if not bool(cast.equals(*self._places(cast)))]
        return self._undo(differing)

    def _answers(self) -> list[Cast]:
        """Casts that the device found differing, and that still do: one flag speaks of many."""
        waiting: list[_Answer] = []
        suspects: dict[str, Cast] = {}
        for flag, event, casts in self._under_way:
            if event is not None and not event.query():  # type: ignore[no-untyped-call]
                waiting.append((flag, event, casts))
            elif bool(flag):
                suspects |= {cast.name: cast for cast in casts}
        self._under_way = waiting
        return [cast for cast in suspects.values() if not bool(cast.equals())]

    def _sample(self) -> list[Cast]:
        count = min(SAMPLED_TENSORS, len(self.casts))
        chosen = [self.casts[(self._next + i) % len(self.casts)] for i in range(count)]
        self._next += count
        return chosen

    def _places(self, cast: Cast) -> tuple[int, int]:
        """Start and step of a sample; each time the next elements, until all were looked at."""
        step = max(1, -(-cast.tensor.numel() // SAMPLED_ELEMENTS))
        start = self._starts.get(cast.name, 0) % step
        self._starts[cast.name] = start + 1
        return start, step

    def _ask_device(self, flag: torch.Tensor, casts: list[Cast]) -> None:
        for cast in casts:
            flag |= ~cast.equals(*self._places(cast))
        if len(self._under_way) < 2 * len(self._flags):  # a device that lags is asked less often
            self._under_way.append((*on_its_way(flag), casts))

    def _undo(self, casts: Sequence[Cast]) -> bool:
        if not casts:
            return False
        for cast in casts:
            self._sources.pop(id(cast.tensor), None)
        names = ", ".join(f'"{cast.name}"' for cast in casts[:_NAMED])
        more = f" and {len(casts) - _NAMED} more" if len(casts) > _NAMED else ""
        _log.warning(
            "%s%s: declared as derived, but not the cast of the tensor named; saved like all others "
            "from now on (is snapshot() called before the cast is made?)", names, more,
        )  # fmt: skip
        return True


def answers_later(device: torch.device) -> bool:
    return device.type != "cpu"


def on_its_way(flag: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """The flag's copy on the host, and what says that it is there."""
    with torch.cuda.device(flag.device):
        there = flag.to("cpu", non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
    return there, event


def _checked(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        tensor, source = pair
        good = isinstance(tensor, torch.Tensor) and isinstance(source, torch.Tensor)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise StateError("derived: give pairs (tensor, the tensor that it is a cast of)")
    if is_sharded(tensor) or is_sharded(source):
        raise StateError("derived: DTensors, of which each rank holds a part, are always saved")
    if tensor.shape != source.shape or tensor.device != source.device:
        raise StateError(
            f"derived: a tensor of {list(tensor.shape)} on {tensor.device} cannot be a cast of one "
            f"of {list(source.shape)} on {source.device}"
        )
    if not (tensor.dtype.is_floating_point and source.dtype.is_floating_point):
        raise StateError(f"derived: {tensor.dtype} from {source.dtype}: both must be floating point")
    if tensor.dtype == source.dtype:
        raise StateError(f"derived: both tensors are {tensor.dtype}: save one and tie the other")
    return tensor, source


__all__ = ["Cast", "Derived", "DerivedTensors", "FLAG"]
