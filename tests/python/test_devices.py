"""Streams and graph captures of a training on GPUs, with a stand-in for torch.cuda and the library."""

from __future__ import annotations

import types

import pytest
import torch

import holdfast
import holdfast._layout
from fake_native import FakeDaemon
from holdfast._devices import current_streams, named_streams
from holdfast._values import HOST
from holdfast.errors import StateError
from support import Training


class FakeStreams:
    """Stream 1000 + device is the current one."""

    def __init__(self) -> None:
        self.in_capture = False
        self.shift = 1000

    def current(self, device: int) -> int:
        return self.shift + device

    def capturing(self) -> bool:
        return self.in_capture


def stream(device: int, handle: int) -> types.SimpleNamespace:
    return types.SimpleNamespace(device=torch.device("cuda", device), cuda_stream=handle)


def make(monkeypatch: pytest.MonkeyPatch) -> tuple[Training, holdfast.Checkpointer, FakeStreams]:
    training = Training()
    checkpointer = holdfast.Checkpointer(
        "job", model=training.model, optimizer=training.optimizer, extra=training.extra
    )
    streams = FakeStreams()
    monkeypatch.setattr(checkpointer._registration, "_streams", streams)
    return training, checkpointer, streams


def on_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state's matrices count as being on device 2, and its vectors on device 0."""
    places = {0: HOST, 1: 0, 2: 2}
    monkeypatch.setattr(holdfast._layout, "device_of", lambda t: places.get(t.dim(), HOST))
    monkeypatch.setattr(
        holdfast._layout,
        "devices_of",
        lambda tensors: sorted({places.get(t.dim(), HOST) for t in tensors} - {HOST}),
    )


# I7: the engine would read beside the stream that writes.
def test_snapshot_and_fence_name_the_stream_that_is_current_then(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_devices(monkeypatch)
    training, checkpointer, streams = make(monkeypatch)
    training.step()
    assert checkpointer.snapshot(1)
    assert fake.begun == [(0, 1000), (2, 1002)]
    streams.shift = 2000
    checkpointer.fence(streams=[stream(2, 77)])
    assert fake.fenced == [(0, 2000), (2, 2002), (2, 77)]
    checkpointer.close()


# I7: the engine would read an address of the device as one of the host.
def test_a_tensor_of_the_extra_state_that_moves_to_a_device_means_a_new_layout(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, checkpointer, _ = make(monkeypatch)
    assert checkpointer.snapshot(1)
    assert place_of_shuffle(fake) == HOST
    checkpointer.fence()
    moved = training.cursor.shuffle.data_ptr()
    monkeypatch.setattr(
        holdfast._layout, "device_of", lambda t: 3 if t.data_ptr() == moved else HOST
    )
    assert checkpointer.snapshot(2)
    assert place_of_shuffle(fake) == 3
    checkpointer.close()


def place_of_shuffle(fake: FakeDaemon) -> int:
    (spec,) = [s for s in fake.layouts[-1] if s.name == "extra.cursor.shuffle"]
    return spec.device


def test_what_is_no_stream_is_refused_before_anything_is_asked_of_it() -> None:
    assert current_streams([1, 3], FakeStreams()) == [(1, 1001), (3, 1003)]
    assert named_streams([stream(1, 5), stream(0, 6)]) == [(1, 5), (0, 6)]
    with pytest.raises(StateError, match="no torch.cuda.Stream"):
        named_streams([object()])


# torch refuses to tell the generators' states then: nothing of the state may be asked for.
def test_a_snapshot_in_a_graph_capture_is_skipped_and_the_next_one_is_taken(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, checkpointer, streams = make(monkeypatch)
    training.step()
    for step in (1, 3):  # before there is a layout, and after
        streams.in_capture = True
        with monkeypatch.context() as patch:
            patch.setattr(holdfast._state, "rng_state", lambda: pytest.fail("asked for"))
            result = checkpointer.snapshot(step)
        assert result.skipped and "CUDA graph" in result.reason
        streams.in_capture = False
        assert checkpointer.snapshot(step + 1)
    checkpointer.close()


def test_what_a_snapshot_may_take_of_a_device_is_the_users_to_say(fake: FakeDaemon) -> None:
    training = Training()
    holdfast.Checkpointer(
        "job", model=training.model, verify_every=3, staging_percent=7, gather_bytes=2**20
    ).close()
    assert fake.options[-3:] == (3, 7, 2**20)
