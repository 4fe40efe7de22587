"""A stand-in for the native library and its daemon, for tests of what is pure Python.

FakeDaemon keeps snapshots as the bytes that a real slot would get; FakeClient has the methods of
holdfast._client.Client.  STABLE tensors are copied at the fence, so that a test sees whether what
was to be read was still there and unchanged.
"""

from __future__ import annotations

import base64
import ctypes
import dataclasses
import json
import math
from typing import Any

from holdfast._drain import Flushing
from holdfast._tensors import DTYPE_NAMES, DTYPES, STAGED
from holdfast._tiers import Tier
from holdfast._values import HOST, Begun, Capture, Choice, Drained, Incarnation, StateItem, Stats
from holdfast._values import Streams, TensorSpec
from holdfast.errors import CorruptionError, TornError, error_of

_NAMES = {DTYPES[dtype]: name for name, dtype in DTYPE_NAMES.items()}
_SIZES = {number: dtype.itemsize for dtype, number in DTYPES.items()}


def gather(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, size: int
) -> bytes:
    """Bytes of a tensor in row-major order."""
    count = math.prod(shape)
    if strides is None:
        return ctypes.string_at(address, count * size)
    out = bytearray()
    for flat in range(count):
        offset = 0
        for n, stride in zip(reversed(shape), reversed(strides)):
            flat, index = divmod(flat, n)
            offset += index * stride
        out += ctypes.string_at(address + offset * size, size)
    return bytes(out)


@dataclasses.dataclass
class FakeSnapshot:
    incarnation: int
    step: int
    specs: list[TensorSpec]
    data: dict[str, bytes]
    items: list[StateItem]

    def sidecar(self) -> str:
        """As protobuf prints it: numbers of 64 bits as strings, defaults left out."""
        tensors = []
        for spec in self.specs:
            raw: dict[str, Any] = {"name": spec.name, "dtype": _NAMES[spec.dtype]}
            if spec.shape:
                raw["local_shape"] = [str(n) for n in spec.shape]
            if spec.alias_of:
                raw["alias_of"] = spec.alias_of
            raw["global_shape"] = [str(n) for n in spec.whole or spec.shape]
            if spec.offset is not None:
                part = {"offset": [str(n) for n in spec.offset], "length": raw.get("local_shape", [])}
                raw["part"] = {"boxes": [part]}
            tensors.append(raw)
        state = [
            {"name": i.name, "json": i.value}
            if isinstance(i.value, str)
            else {"name": i.name, "pickle": base64.b64encode(i.value).decode()}
            for i in self.items
        ]
        return json.dumps({"layout": {"tensors": tensors}, "state": state})


class FakeDaemon:
    def __init__(self) -> None:
        self.snapshots: list[FakeSnapshot] = []
        self.incarnation = 0
        self.tiers: list[Tier] = []
        self.layouts: list[list[TensorSpec]] = []
        self.corrupt_steps: set[int] = set()
        self.skip = ""
        self.options: tuple[float, ...] = ()  # of the last client, behind its timeout
        self.begun: list[tuple[int, int]] = []  # the streams of the last snapshot
        self.fenced: list[tuple[int, int]] = []  # and of the last fence
        self.finished: list[str | None] = []

    def client(self, socket: str, timeout: float, *options: float) -> "FakeClient":
        self.options = options
        return FakeClient(self)

    def newest(self) -> FakeSnapshot:
        return max(self.snapshots, key=lambda s: (s.incarnation, s.step))


class FakeRestore:
    def __init__(self, daemon: FakeDaemon, choice: Choice, snapshot: FakeSnapshot | None) -> None:
        self._daemon = daemon
        self.choice = choice
        self.snapshot = snapshot

    def sidecar(self) -> str:
        assert self.snapshot is not None
        return self.snapshot.sidecar()

    def load(
        self,
        indices: list[int],
        addresses: list[int],
        lengths: list[int],
        devices: list[int],
        threads: int,
    ) -> None:
        assert set(devices) <= {HOST}
        assert self.snapshot is not None and len(set(indices)) == len(indices)
        for index, address, length in zip(indices, addresses, lengths):
            data = self.snapshot.data[self.snapshot.specs[index].name]
            assert len(data) == length, self.snapshot.specs[index].name
            if self.snapshot.step in self._daemon.corrupt_steps:
                data = b"\xff" * length
            ctypes.memmove(address, data, length)
        if self.snapshot.step in self._daemon.corrupt_steps:
            raise CorruptionError(f"step {self.snapshot.step}: chunk 0 does not match")

    def finish(self, failure: str | None, timeout: float) -> bool:
        self._daemon.finished.append(failure)
        if failure is not None and self.snapshot in self._daemon.snapshots:
            self._daemon.snapshots.remove(self.snapshot)
        return failure is None

    def refuse(self, reason: str, timeout: float) -> None:
        self._daemon.finished.append(reason)

    def free(self) -> None:
        pass


class FakeClient:
    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self.specs: list[TensorSpec] = []
        self.pending: tuple[FakeSnapshot, list[tuple[Any, ...]]] | None = None
        self.closed = False
        self.torn_next = ""
        self.changed: list[int] = []  # CONSTANT tensors of the layout, found written
        self.incarnation = 0

    def open_incarnation(
        self, job: str, world_size: int, tiers: list[Tier], take_over: bool
    ) -> Incarnation:
        self.daemon.incarnation += 1
        self.daemon.tiers = list(tiers)
        return Incarnation(bytes(16), self.daemon.incarnation, 7)

    def join(self, job: str, incarnation: Incarnation, rank: int, world_size: int) -> None:
        self.incarnation = incarnation.number

    def set_layout(self, specs: list[TensorSpec], seconds: float | None = None) -> None:
        assert len({s.name for s in specs}) == len(specs)
        self.specs = list(specs)
        self.daemon.layouts.append(self.specs)

    def wait_ready(self, timeout: float) -> None:
        pass

    def snapshot(self, step: int, capture: Capture) -> Begun:
        self.daemon.begun = list(capture.streams)
        assert self.pending is None, "a snapshot without a fence before it"
        count, strides = capture.count, capture.strides
        assert count == len(self.specs)
        if self.daemon.skip:
            return Begun(self.daemon.skip)
        by_index = {
            strides.array[i].tensor: tuple(
                strides.array[i].strides[d] for d in range(strides.array[i].ndim)
            )
            for i in range(strides.count)
        }
        addresses = (ctypes.c_uint64 * count).from_address(capture.address)
        snapshot = FakeSnapshot(self.incarnation, step, self.specs, {}, list(capture.items))
        later = []
        for i, spec in enumerate(self.specs):
            if spec.alias_of is not None or math.prod(spec.shape) == 0:
                assert not addresses[i], spec.name
                continue
            assert addresses[i], spec.name
            what = (spec.name, addresses[i], spec.shape, by_index.get(i), _SIZES[spec.dtype])
            if spec.tensor_class == STAGED:
                snapshot.data[spec.name] = gather(*what[1:])
            else:
                later.append(what)
        self.pending = (snapshot, later)
        return Begun(None)

    def not_constant(self) -> list[int]:
        return list(self.changed)

    def skip(self, step: int, reason: str) -> None:
        pass

    def fence(self, streams: Streams = ()) -> None:
        if self.pending is None:
            return
        self.daemon.fenced = list(streams)
        (snapshot, later), self.pending = self.pending, None
        if self.torn_next:
            text, self.torn_next = self.torn_next, ""
            raise TornError(text)
        for name, *what in later:
            snapshot.data[name] = gather(*what)
        self.daemon.snapshots.append(snapshot)

    def wait_sealed(self, step: int, timeout: float) -> None:
        pass

    def stats(self) -> Stats:
        values: dict[str, Any] = {f.name: 0 for f in dataclasses.fields(Stats)}
        return Stats(**{**values, "connected": True, "note": ""})

    def why_away(self) -> str:
        return ""

    def restore_begin(
        self,
        step: int | None,
        include_discarded: bool,
        after_attempt: int,
        timeout: float,
        overwritten: bool = False,
    ) -> FakeRestore:
        fitting = [s for s in self.daemon.snapshots if step is None or s.step == step]
        if step is not None and not fitting:
            raise error_of(2, f"step {step} cannot be had")
        found = max(fitting, key=lambda s: (s.incarnation, s.step), default=None)
        choice = Choice(
            after_attempt + 1,
            found.incarnation if found else 0,
            found.step if found else None,
            "arena" if found else "",
            (),
        )
        return FakeRestore(self.daemon, choice, found)

    def drain(self, timeout: float) -> Drained:
        newest = max((s.step for s in self.daemon.snapshots), default=-1)
        return Drained(self.incarnation, newest, True, "")

    def flush_progress(self) -> list[Flushing]:
        return []

    def finish(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True
