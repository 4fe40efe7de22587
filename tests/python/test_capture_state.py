"""Optimizers, wrappers and state of every kind, against a stand-in for the native library."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import holdfast
from fake_native import FakeDaemon
from support import digest


def specs(daemon: FakeDaemon) -> dict[str, Any]:
    return {spec.name: spec for spec in daemon.layouts[-1]}


@pytest.mark.parametrize(
    "factory",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adam(p, lr=torch.tensor(0.1), amsgrad=True, foreach=False),
        lambda p: torch.optim.Adagrad(p),
        lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.5),
        lambda p: torch.optim.Adafactor(p),
        lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
        lambda p: torch.optim.NAdam(p),
        lambda p: torch.optim.Rprop(p),
    ],
)
def test_optimizers_of_every_kind_resume_bit_for_bit(fake: FakeDaemon, factory: Any) -> None:
    def training(seed: int) -> tuple[Any, Any]:
        torch.manual_seed(seed)
        model = torch.nn.Linear(4, 3)
        return model, factory(model.parameters())

    def step(model: Any, optimizer: Any) -> None:
        data = torch.randn(5, 4)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss: torch.Tensor = model(data).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    model, optimizer = training(0)
    checkpointer = holdfast.Checkpointer("job", model=model, optimizer=optimizer, auto_fence=False)
    for number in range(1, 4):
        checkpointer.fence()
        step(model, optimizer)
        checkpointer.snapshot(number)
    checkpointer.close()
    other, other_optimizer = training(1)
    again = holdfast.Checkpointer("job", model=other, optimizer=other_optimizer, auto_fence=False)
    assert again.restore() == 3
    assert digest(other_optimizer.state_dict()) == digest(optimizer.state_dict())
    rng = torch.get_rng_state()
    step(other, other_optimizer)
    torch.set_rng_state(rng)
    step(model, optimizer)
    assert digest(other_optimizer.state_dict()) == digest(optimizer.state_dict())
    assert digest(dict(other.state_dict())) == digest(dict(model.state_dict()))


def test_several_models_and_optimizers_keep_apart(fake: FakeDaemon) -> None:
    def build(seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        models = {"gen": torch.nn.Linear(2, 2), "disc": torch.nn.Linear(2, 2)}
        own = torch.nn.Parameter(torch.randn(3))
        optimizers = {
            "gen": torch.optim.Adam([*models["gen"].parameters(), own]),
            "disc": torch.optim.SGD(models["disc"].parameters(), lr=0.1, momentum=0.9),
        }
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.grad = torch.randn_like(p)
            optimizer.step()
        generator = torch.Generator()
        generator.manual_seed(seed)
        return {"model": models, "optimizer": optimizers, "extra": generator}

    first = build(0)
    checkpointer = holdfast.Checkpointer("job", **first)
    checkpointer.snapshot(1)
    checkpointer.close()
    names = set(specs(fake))
    assert {"gen.weight", "disc.bias", "optimizer.gen.param_0_2", "extra"} <= names
    assert "optimizer.gen.state.optimizer.gen.param_0_2.exp_avg" in names
    second = build(1)
    assert holdfast.Checkpointer("job", **second).restore() == 1
    for kind in ("model", "optimizer"):
        for key in first[kind]:
            assert digest(dict(second[kind][key].state_dict())) == digest(
                dict(first[kind][key].state_dict())
            ), (kind, key)
    assert second["extra"].get_state().equal(first["extra"].get_state())
    own = second["optimizer"]["gen"].param_groups[0]["params"][2]
    assert own.equal(first["optimizer"]["gen"].param_groups[0]["params"][2])


def test_wrappers_do_not_change_names(fake: FakeDaemon) -> None:
    class OptimizedModule(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self._orig_mod = inner

    holdfast.Checkpointer("job", model=OptimizedModule(torch.nn.Linear(2, 2))).snapshot(1)
    assert {"weight", "bias"} <= set(specs(fake))


def test_large_state_travels_as_a_tensor_and_comes_back(fake: FakeDaemon) -> None:
    class Long:
        def __init__(self, count: int) -> None:
            self.seen = list(range(count))

        def state_dict(self) -> dict[str, Any]:
            return {"seen": self.seen, "t": torch.arange(3)}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.seen = state["seen"]
            assert state["t"].equal(torch.arange(3))

    long = Long(300_000)
    checkpointer = holdfast.Checkpointer("job", extra=long)
    checkpointer.snapshot(1)
    checkpointer.fence()
    long.seen.append(5)
    checkpointer.snapshot(2)
    checkpointer.close()
    assert len(fake.layouts) == 1, "a little growth needs no new layout"
    assert all(len(i.value) < 2_000_000 for i in fake.newest().items)
    other = Long(0)
    assert holdfast.Checkpointer("job", extra=other).restore() == 2
    assert other.seen == long.seen


def test_many_documents_that_add_up_travel_as_tensors_too(fake: FakeDaemon) -> None:
    class Text:
        value = ""

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.value = state["value"]

    many = {f"n{i}": Text() for i in range(40)}
    for i, each in enumerate(many.values()):
        each.value = str(i) * 500_000
    checkpointer = holdfast.Checkpointer("job", extra=many)
    checkpointer.snapshot(1)
    checkpointer.close()
    assert sum(len(i.value) for i in fake.newest().items) < 9 << 20
    others = {key: Text() for key in many}
    assert holdfast.Checkpointer("job", extra=others).restore() == 1
    assert [t.value for t in others.values()] == [t.value for t in many.values()]


def test_module_extra_state_comes_back(fake: FakeDaemon) -> None:
    class Scaled(torch.nn.Module):
        history: Any = None

        def get_extra_state(self) -> Any:
            return {"amax": self.history}

        def set_extra_state(self, state: Any) -> None:
            self.history = state["amax"]

    model = torch.nn.Sequential(Scaled(), Scaled())
    model[1].history = torch.randn(4)
    checkpointer = holdfast.Checkpointer("job", model=model)
    checkpointer.snapshot(1)
    checkpointer.close()
    other = torch.nn.Sequential(Scaled(), Scaled())
    holdfast.Checkpointer("job", model=other).restore()
    assert other[0].history is None and other[1].history.equal(model[1].history)
