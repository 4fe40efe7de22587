"""A synchronous copy of a state, to compare with what came back, bit for bit."""

from __future__ import annotations

import json
import pathlib
import struct
from collections.abc import Mapping

import torch

from device import Device

_ALIGNED = 64


def raw(tensor: torch.Tensor) -> torch.Tensor:
    """Its bytes."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


class Reference:
    """Takes a copy into one host buffer, which may be longer than the state."""

    def __init__(self, device: Device, buffer: torch.Tensor) -> None:
        self._device = device
        self._buffer = buffer
        self._places: dict[str, tuple[int, int]] = {}
        self.step = -1

    @staticmethod
    def size(state: Mapping[str, torch.Tensor]) -> int:
        return sum(-(-t.numel() * t.element_size() // _ALIGNED) * _ALIGNED for t in state.values())

    def take(self, state: Mapping[str, torch.Tensor], step: int) -> None:
        """As it is now, with everything else waiting."""
        self._device.sync()
        self._places, at = {}, 0
        for name, tensor in state.items():
            data = raw(tensor)
            self._buffer[at : at + data.numel()].copy_(data, non_blocking=True)
            self._places[name] = (at, data.numel())
            at += -(-data.numel() // _ALIGNED) * _ALIGNED
        self.step = step
        self._device.sync()

    def bytes_of(self, name: str) -> torch.Tensor:
        at, size = self._places[name]
        return self._buffer[at : at + size]

    def differences(self, state: Mapping[str, torch.Tensor]) -> list[str]:
        """Names of tensors that are missing or differ."""
        found = []
        for name in self._places:
            if name not in state:
                found.append(f"{name} is missing")
                continue
            data = raw(state[name]).to(self._device.torch)
            if not torch.equal(data, self.bytes_of(name).to(self._device.torch)):
                found.append(name)
        return found

    def differences_in_file(self, path: pathlib.Path) -> list[str]:
        """The same for a safetensors file."""
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        whole = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)
        state = {}
        for name, entry in header.items():
            if name != "__metadata__":
                first, end = entry["data_offsets"]
                state[name] = whole[8 + length + first : 8 + length + end]
        return self.differences(state)


def verdict(differences: list[str]) -> str:
    if not differences:
        return "bytes verified"
    return f"WRONG BYTES in {len(differences)} tensors ({differences[0]})"
