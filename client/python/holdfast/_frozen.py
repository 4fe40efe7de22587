"""Which tensors of a training nobody writes.

Frozen by their own word are parameters that need no gradient and that no optimizer has; the user
may name more.  The library compares a sample of them at every snapshot: what was written after all
is thawed, and saved like all others from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch

from holdfast._tensors import CONSTANT
from holdfast.errors import StateError

Frozen = Literal["auto", False] | Sequence[str]


def _is_in(name: str, tensor_or_module: str) -> bool:
    return name == tensor_or_module or name.startswith(tensor_or_module + ".")


class FrozenTensors:
    """The rule, and what it found at the last look at the state."""

    def __init__(self, frozen: Frozen) -> None:
        if isinstance(frozen, str) and frozen != "auto":
            frozen = [frozen]
        self._wanted = frozen is not False
        self._names = [] if isinstance(frozen, (str, bool)) else list(frozen)
        #: Names of tensors that were found written although they were taken for frozen.
        self.thawed: set[str] = set()
        self._trained: set[int] = set()  # ids of the optimizers' parameters
        self._free: list[torch.nn.Parameter] = []

    def look_anew(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        self._free = []
        self._trained = {id(p) for o in optimizers for g in o.param_groups for p in g["params"]}

    def class_of(self, name: str, tensor: torch.Tensor, otherwise: int) -> int:
        """CONSTANT for what is frozen."""
        if not self._wanted or name in self.thawed:
            return otherwise
        trained = id(tensor) in self._trained
        if any(_is_in(name, each) for each in self._names):
            if trained:
                raise StateError(f'frozen: an optimizer trains "{name}"')
            return CONSTANT
        if trained or not isinstance(tensor, torch.nn.Parameter) or tensor.requires_grad:
            return otherwise
        self._free.append(tensor)
        return CONSTANT

    def check_names(self, present: Iterable[str]) -> None:
        """Refuses a name that nothing in the state has."""
        for name in self._names:
            if not any(_is_in(each, name) for each in present):
                raise StateError(f'frozen: the model has no tensor or module "{name}"')

    def thaws(self) -> bool:
        """Whether a parameter needs a gradient that did not at the last look."""
        return any(parameter.requires_grad for parameter in self._free)


__all__ = ["Frozen", "FrozenTensors"]
