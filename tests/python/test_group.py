"""What the ranks of a job agree on, with a stand-in for torch's process group."""

from __future__ import annotations

import types

import pytest
import torch
import torch.distributed as dist

from holdfast._group import Group


@pytest.mark.parametrize(
    ("backend", "devices", "used"),
    [
        # As init_device_mesh leaves it: no backend was named, and the machine has GPUs.
        ("undefined", ["cuda"], "cuda:3"),
        ("undefined", ["cpu"], "cpu"),
        ("nccl", ["cuda"], "cuda:3"),
        ("cpu:gloo,cuda:nccl", ["cuda", "cpu"], "cpu"),
        ("gloo", ["cpu", "cuda"], "cpu"),
        # A torch whose groups do not tell their devices.
        ("nccl", None, "cuda:3"),
        ("gloo", None, "cpu"),
    ],
)
def test_what_ranks_tell_each_other_lies_where_a_backend_of_the_group_takes_it(
    monkeypatch: pytest.MonkeyPatch, backend: str, devices: list[str] | None, used: str
) -> None:
    world = types.SimpleNamespace()
    if devices is not None:
        world._device_types = [torch.device(name) for name in devices]
    monkeypatch.setattr(dist, "group", types.SimpleNamespace(WORLD=world))
    monkeypatch.setattr(dist, "get_backend", lambda: backend)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert str(Group()._device()) == used
