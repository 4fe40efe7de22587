"""A Checkpointer that goes without close()."""

from __future__ import annotations

import gc
import pathlib
import sys
import weakref

import pytest
import torch

import holdfast
from holdfast._client import Client
from node import Node


class Memory(bytearray):
    """Of a parameter; it goes when the tensor's storage does."""


def begin_a_copy(go: pathlib.Path, auto_fence: bool, held: list[weakref.ref[Memory]]) -> None:
    """Of a training that nobody has any more when this returns.  The copy goes on with the file."""
    memory = Memory(4 << 20)
    held.append(weakref.ref(memory))
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.frombuffer(memory, dtype=torch.float32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpointer = holdfast.Checkpointer(
        "job", model=model, optimizer=optimizer, auto_fence=auto_fence
    )
    checkpointer.restore()
    checkpointer.prepare()
    holdfast.arm_failpoints(f"client.copy.chunk=wait:{go}")
    assert checkpointer.snapshot(1)


# I7: the engine would read memory that is gone.  The hook of auto_fence makes a cycle.
@pytest.mark.parametrize("auto_fence", [False, True])
def test_memory_lives_until_the_copy_of_a_dropped_checkpointer_has_ended(
    node: Node, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, auto_fence: bool
) -> None:
    go = tmp_path / "go"
    held: list[weakref.ref[Memory]] = []
    lives: list[bool] = []
    close = Client.close

    def watched(client: Client) -> None:
        lives.append(held[0]() is not None)
        go.touch()
        close(client)
        lives.append(held[0]() is not None)

    gc.collect()  # those of other tests
    monkeypatch.setattr(Client, "close", watched)
    begin_a_copy(go, auto_fence, held)
    for _ in range(3):
        gc.collect()
    assert lives == [True, True]
    assert held[0]() is None, "and no longer"


def test_one_that_was_never_connected_goes_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gc.collect()
    raised: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    with pytest.raises(holdfast.StateError, match="not a Module"):
        holdfast.Checkpointer("job", model="none")
    holdfast.Checkpointer.__new__(holdfast.Checkpointer)
    gc.collect()
    assert raised == []
