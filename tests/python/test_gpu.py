"""State on real GPUs.  Without one all of it skips; the same engine runs on a simulated runtime in
tests/client/copy_cuda."""

from __future__ import annotations

import time

import pytest
import torch

import holdfast
from lora import Lora
from node import Node
from support import digest, make, seed_all, take
from test_derived import Mixed

GPUS = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(GPUS == 0, reason="no GPU here")
ELSEWHERE = pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")


class OnDevice:
    """A model with a buffer that forward writes, and fused AdamW, on one device."""

    def __init__(self, device: int, seed: int = 0) -> None:
        self.device = torch.device("cuda", device)
        seed_all(seed)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(512, 2048),
            torch.nn.BatchNorm1d(2048),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(2048, 512),
        ).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

    def step(self) -> None:
        batch = torch.randn(64, 512).to(self.device)
        self.model(batch).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def digest(self) -> str:
        return digest([dict(self.model.state_dict()), self.optimizer.state_dict()])


@pytest.mark.parametrize(
    "target", [pytest.param("same"), pytest.param("another", marks=ELSEWHERE)]
)
@pytest.mark.parametrize("current", ["its own", pytest.param("another", marks=ELSEWHERE)])
def test_state_comes_back_bit_for_bit(node: Node, target: str, current: str) -> None:
    """Also into a model on another GPU, and while another one is current."""
    torch.cuda.set_device(0 if current == "its own" else 1)
    try:
        training = OnDevice(0)
        with make(training) as checkpointer:
            checkpointer.restore()
            for step in range(1, 5):
                training.step()
                take(checkpointer, step)
            stats = checkpointer.stats
            assert (stats.torn, stats.failed, stats.note) == (0, 0, "")
            assert stats.pinned_slots > 0 and stats.unpinned_slots == 0
        again = OnDevice(0 if target == "same" else 1, seed=1)
        with make(again) as checkpointer:
            assert checkpointer.restore() == 4
        assert again.digest() == training.digest()
        assert {p.device for p in again.model.parameters()} == {again.device}
    finally:
        torch.cuda.set_device(0)


def test_training_goes_on_as_if_nothing_had_happened(node: Node) -> None:
    whole = OnDevice(0)
    for _ in range(6):
        whole.step()
    training = OnDevice(0)
    with make(training) as checkpointer:
        checkpointer.restore()
        for step in range(1, 4):
            training.step()
            take(checkpointer, step)
    again = OnDevice(0, seed=1)
    with make(again) as checkpointer:
        assert checkpointer.restore() == 3
        for step in range(4, 7):
            again.step()
            result = checkpointer.snapshot(step)
            assert result or "slots" in result.reason, result.reason
    assert again.digest() == whole.digest()


def test_a_write_before_the_fence_is_torn(node: Node) -> None:
    training = OnDevice(0)
    with make(training) as checkpointer:
        checkpointer.restore()
        training.step()
        with pytest.warns(holdfast.TornSnapshotWarning):
            for step in range(1, 11):
                checkpointer.prepare()
                result = checkpointer.snapshot(step)
                assert result, result.reason
                with torch.no_grad():
                    for parameter in training.model.parameters():
                        parameter.add_(1.0)  # not by the optimizer, whose hook has a fence
                checkpointer.fence()
                torch.cuda.synchronize()
                time.sleep(0.1)  # how it ended is told by a later fence
        assert checkpointer.stats.torn > 5


def test_snapshots_of_a_fine_tune_have_the_adapters_size(node: Node) -> None:
    with torch.device("cuda:0"):
        training, again = Lora(), Lora(seed=1)
        with make(training) as checkpointer:
            checkpointer.restore()
            for step in range(1, 5):
                training.step()
                checkpointer.prepare()
                result = checkpointer.snapshot(step)
                assert result, result.reason
                checkpointer.wait(step)
                assert result.bytes < 3 * training.adapter_bytes() + 128 * 1024
                assert (result.static_bytes >= training.frozen_bytes()) == (step == 1)
            assert checkpointer.stats.torn == 0
        with make(again) as checkpointer:
            assert checkpointer.restore() == 4
    assert again.digest() == training.digest()


def test_derived_tensors_are_made_again_bit_for_bit(node: Node) -> None:
    with torch.device("cuda:0"):
        training, again = Mixed(), Mixed()
        with make(training, derived=training.pairs()) as checkpointer:
            checkpointer.restore()
            for step in range(1, 4):
                training.step()
                take(checkpointer, step)
            assert checkpointer.stats.torn == 0
        with torch.no_grad():
            for parameter in again.model.parameters():
                parameter.zero_()
        with make(again, derived=again.pairs()) as checkpointer:
            assert checkpointer.restore() == 3
    assert again.state() == training.state()
