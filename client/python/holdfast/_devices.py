"""Where tensors lie, and on which streams the training works.

Everything that needs a GPU is behind Streams, which a test replaces: the rest of the package only
moves numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch

from holdfast._values import HOST
from holdfast.errors import StateError


class StreamSource(Protocol):
    """What the library must know of a device's queues."""

    def current(self, device: int) -> int:
        """The handle (cudaStream_t) of the stream that this thread works on."""
        ...

    def capturing(self) -> bool:
        """Whether that stream is being captured into a CUDA graph."""
        ...


class TorchStreams:
    """torch.cuda's."""

    def __init__(self) -> None:
        # Where torch has it: a stream's object takes several times as long as its handle.
        self._handle = getattr(torch._C, "_cuda_getCurrentRawStream", None)

    def current(self, device: int) -> int:
        if self._handle is not None:
            return int(self._handle(device))
        return int(torch.cuda.current_stream(device).cuda_stream)

    def capturing(self) -> bool:
        initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return bool(initialized and torch.cuda.is_current_stream_capturing())


def device_of(tensor: torch.Tensor) -> int:
    """The CUDA device that holds a tensor, or HOST."""
    if tensor.device.type != "cuda":
        return HOST
    index = tensor.device.index
    return 0 if index is None else index


def devices_of(tensors: Iterable[torch.Tensor]) -> list[int]:
    """Each device once, rising; without HOST."""
    return sorted({device_of(t) for t in tensors} - {HOST})


def current_streams(devices: Iterable[int], source: StreamSource) -> list[tuple[int, int]]:
    return [(device, source.current(device)) for device in devices]


def named_streams(streams: Iterable[Any]) -> list[tuple[int, int]]:
    """The user's torch.cuda.Stream objects as the library takes them."""
    result = []
    for stream in streams:
        try:
            result.append((int(stream.device.index), int(stream.cuda_stream)))
        except AttributeError as error:
            raise StateError(f"{stream!r} is no torch.cuda.Stream") from error
    return result


def optimizer_device(field: str, group: dict[str, Any], parameter: torch.Tensor) -> torch.device:
    """Where an optimizer keeps a field of its state (as torch's own load_state_dict decides)."""
    on_host = field == "step" and not (group.get("fused") or group.get("capturable"))
    return torch.device("cpu") if on_host else parameter.device
