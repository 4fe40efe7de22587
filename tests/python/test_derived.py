"""Derived tensors: bf16 parameters that are casts of an optimizer's fp32 masters."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

import holdfast
from holdfast import _derived
from node import Node
from support import digest, raw, seed_all

WIDTH = 64


class Mixed:
    """A training in bf16 with fp32 masters, as mixed-precision optimizers hold them."""

    def __init__(self, layers: int = 3) -> None:
        seed_all(7)
        blocks = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(layers)]
        self.model = torch.nn.Sequential(*blocks).to(torch.bfloat16)
        self.masters = [p.detach().float().requires_grad_() for p in self.model.parameters()]
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-2)

    def pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(self.model.parameters(), self.masters))

    def step(self) -> None:
        self.model(torch.randn(4, WIDTH, dtype=torch.bfloat16)).float().square().mean().backward()
        for parameter, master in self.pairs():
            assert parameter.grad is not None
            master.grad = parameter.grad.float()
            parameter.grad = None
        self.optimizer.step()
        with torch.no_grad():
            for parameter, master in self.pairs():
                parameter.copy_(master)

    def state(self) -> str:
        masters = {str(i): m.detach() for i, m in enumerate(self.masters)}
        return digest([dict(self.model.state_dict()), masters, self.optimizer.state_dict()])


def make(training: Mixed, derived: bool = True) -> holdfast.Checkpointer:
    return holdfast.Checkpointer(
        "mixed",
        model=training.model,
        optimizer=training.optimizer,
        derived=training.pairs() if derived else (),
    )


def take(checkpointer: holdfast.Checkpointer, step: int) -> None:
    """A snapshot that is not skipped, sealed when this returns; prepare() would compare everything."""
    if checkpointer.stats.begun == 0:
        checkpointer.prepare()
    checkpointer._connected().wait_ready(30.0)
    result = checkpointer.snapshot(step)
    assert result, result.reason
    checkpointer.wait(step)


def change_layout(checkpointer: holdfast.Checkpointer, step: int) -> int:
    """The snapshot that finds another layout is skipped, unless the daemon has slots of it at once.
    How many were sealed."""
    result = checkpointer.snapshot(step)
    if result.skipped:
        assert "slots of this layout" in result.reason
        return 0
    checkpointer.wait(step)
    return 1


def run(training: Mixed, checkpointer: holdfast.Checkpointer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        training.step()
        take(checkpointer, step)


def model_bytes(training: Mixed) -> int:
    return sum(p.numel() * p.element_size() for p in training.model.parameters())


def test_casts_are_not_copied(node: Node) -> None:
    sizes = []
    for derived in (False, True):
        training = Mixed()
        with make(training, derived) as checkpointer:
            run(training, checkpointer, 1, 2)
            sizes.append(checkpointer.stats.image_bytes)
            checkpointer.finish()
    saved = sizes[0] - sizes[1]
    assert model_bytes(training) <= saved + 4096 <= model_bytes(training) + 8192


@pytest.mark.parametrize("declared", [True, False])
def test_they_come_back_bit_for_bit(node: Node, declared: bool) -> None:
    training = Mixed()
    with make(training) as checkpointer:
        run(training, checkpointer, 1, 3)
    training.step()
    expected = training.state()

    again = Mixed()
    with torch.no_grad():
        for parameter in again.model.parameters():
            parameter.zero_()
    with make(again, declared) as checkpointer:
        assert checkpointer.restore() == 3
        again.step()
    assert again.state() == expected


def test_a_snapshot_that_has_them_is_loaded_as_it_is(node: Node) -> None:
    training = Mixed()
    with make(training, derived=False) as checkpointer:
        run(training, checkpointer, 1, 2)
    again = Mixed()
    with make(again) as checkpointer:
        assert checkpointer.restore() == 2
    assert again.state() == training.state()


def test_what_was_written_otherwise_is_saved(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    training = Mixed()
    with make(training) as checkpointer:
        run(training, checkpointer, 1, 2)
        with torch.no_grad():
            training.model[1].weight.fill_(0.5)
        with caplog.at_level(logging.WARNING, "holdfast"):
            change_layout(checkpointer, 3)
            take(checkpointer, 4)
        assert '"1.weight"' in caplog.text and '"0.weight"' not in caplog.text
        expected = training.state()
    again = Mixed()
    with make(again) as checkpointer:
        assert checkpointer.restore() == 4
    assert again.state() == expected
    assert bool((again.model[1].weight == 0.5).all())


def test_a_single_element_is_found_within_the_round(node: Node) -> None:
    training = Mixed(layers=1)
    with make(training) as checkpointer:
        run(training, checkpointer, 1, 1)
        with torch.no_grad():
            training.model[0].weight[3, 5] += 1.0
        before = checkpointer.stats.image_bytes
        for step in range(2, 3 + WIDTH * WIDTH // _derived.SAMPLED_ELEMENTS):
            checkpointer.snapshot(step)
            checkpointer.fence()
        assert checkpointer.stats.image_bytes > before


def test_a_declaration_that_is_wrong_from_the_start_costs_nothing_but_space(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    training = Mixed()
    with torch.no_grad():
        training.model[2].bias[0] = float("nan")
    with caplog.at_level(logging.WARNING, "holdfast"), make(training) as checkpointer:
        take(checkpointer, 1)
    assert '"2.bias"' in caplog.text
    again = Mixed()
    with make(again) as checkpointer:
        assert checkpointer.restore() == 1
    assert raw(again.model[2].bias) == raw(training.model[2].bias)


def test_what_a_device_answers_later_is_in_time(
    node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7.  As on a GPU, where the sample is not waited for: a snapshot whose own sample says that it
    cannot be restored bit for bit is given up, and the tensor is saved from the next one on."""
    monkeypatch.setattr(_derived, "answers_later", lambda device: True)
    monkeypatch.setattr(_derived, "on_its_way", lambda flag: (flag.clone(), None))
    training = Mixed()
    with make(training) as checkpointer:
        run(training, checkpointer, 1, 2)
        with torch.no_grad():
            training.model[1].weight.fill_(0.5)
        with pytest.raises(holdfast.AbandonedError, match="derived.differs.cpu.*must be zero"):
            take(checkpointer, 3)
        with caplog.at_level(logging.WARNING, "holdfast"):
            more = change_layout(checkpointer, 4)
            take(checkpointer, 5)
        assert '"1.weight"' in caplog.text and '"0.weight"' not in caplog.text
        assert (checkpointer.stats.torn, checkpointer.stats.sealed) == (1, 3 + more)
    again = Mixed()
    with make(again) as checkpointer:
        assert checkpointer.restore() == 5
    assert again.state() == training.state()


def bad_pairs() -> dict[str, Any]:
    training = Mixed(layers=1)
    weight, master = training.model[0].weight, training.masters[0]
    return {
        "pairs": (training, [weight]),
        "cannot be a cast of": (training, [(weight, training.masters[1])]),
        "save one and tie": (training, [(master, master.detach().clone())]),
        "both must be floating": (training, [(weight, torch.zeros(WIDTH, WIDTH, dtype=torch.int32))]),
        "is not saved": (training, [(weight, master.detach().clone())]),
        "is no parameter": (training, [(weight.detach().clone(), master)]),
    }


@pytest.mark.parametrize("text", bad_pairs())
def test_wrong_pairs_are_refused(text: str) -> None:
    training, pairs = bad_pairs()[text]
    with pytest.raises(holdfast.StateError, match=text):
        holdfast.Checkpointer(
            "mixed", model=training.model, optimizer=training.optimizer, derived=pairs
        )


def test_dtensors_are_refused() -> None:
    """Their local parts would be compared with the whole."""
    import torch.distributed as dist
    from torch.distributed.tensor import distribute_tensor

    training = Mixed(layers=1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = dist.init_device_mesh("cpu", (1,))
        part = distribute_tensor(training.masters[0].detach(), mesh)
        with pytest.raises(holdfast.StateError, match="DTensors, of which each rank holds a part"):
            holdfast.Checkpointer(
                "mixed",
                model=training.model,
                optimizer=training.optimizer,
                derived=[(training.model[0].weight, part)],
            )
    finally:
        dist.destroy_process_group()
