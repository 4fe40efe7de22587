"""Flips one byte where a snapshot's bytes lie: in a slot of the arena, or in a durable file."""

from __future__ import annotations

import json
import pathlib
import struct

from node import DemoError

# Every Adam counts its steps in a tensor of the image: that tells whose slot a file is.
_STEP_TENSOR = "optimizer.state.bytes.weight.step"
_VICTIM = "blocks.0.up.weight"


def _header(path: pathlib.Path) -> tuple[dict[str, dict[str, list[int]]], int]:
    """The safetensors header, and where the data starts."""
    with open(path, "rb") as file:
        raw = file.read(8)
        if len(raw) < 8:
            return {}, 0
        (length,) = struct.unpack("<Q", raw)
        if length == 0 or length > 10_000_000:
            return {}, 0
        try:
            return json.loads(file.read(length)), 8 + length
        except ValueError:
            return {}, 0


def _flip(path: pathlib.Path, tensor: str) -> str:
    header, start = _header(path)
    begin, end = header[tensor]["data_offsets"]
    position = start + (begin + end) // 2
    with open(path, "r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))
    return f"{path.name}, byte {position} (in {tensor})"


def flip_in_arena(arena: pathlib.Path, step: int) -> str:
    """In a slot that holds a shard of that step."""
    for path in sorted((arena / "slots").iterdir()):
        header, start = _header(path)
        if _STEP_TENSOR not in header:
            continue
        begin, _ = header[_STEP_TENSOR]["data_offsets"]
        with open(path, "rb") as file:
            file.seek(start + begin)
            (held,) = struct.unpack("<f", file.read(4))
        if int(held) == step:
            return _flip(path, _VICTIM)
    raise DemoError(f"no slot in {arena} holds step {step}")


def flip_on_tier(root: pathlib.Path, step: int) -> str:
    """In a file of that durable step."""
    files = sorted(root.glob(f"*/step-*{step:08d}.i*/**/rank-*.safetensors"))
    if not files:
        raise DemoError(f"no file of step {step} below {root}")
    return _flip(files[-1], _VICTIM)
