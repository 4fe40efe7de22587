"""What a snapshot holds and how it comes back, against a stand-in for the native library."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch

import holdfast
from fake_native import FakeDaemon
from holdfast._tensors import DTYPES, STABLE, STAGED
from support import Training, digest, raw, seed_all


def make(training: Training, **options: Any) -> holdfast.Checkpointer:
    return holdfast.Checkpointer(
        "job", model=training.model, optimizer=training.optimizer, extra=training.extra, **options
    )


def specs(daemon: FakeDaemon) -> dict[str, Any]:
    return {spec.name: spec for spec in daemon.layouts[-1]}


def test_training_goes_on_bit_for_bit_after_a_restore_into_a_fresh_process(
    fake: FakeDaemon,
) -> None:
    whole = Training()
    for _ in range(9):
        whole.step()
    first = Training()
    checkpointer = make(first)
    assert checkpointer.restore() == 0 and checkpointer.restored is None
    for step in range(1, 6):
        first.step()
        assert checkpointer.snapshot(step)
    checkpointer.close()

    second = Training(seed=99)
    random.seed(5)
    checkpointer = make(second)
    assert checkpointer.restore() == 5
    assert checkpointer.restored == holdfast.Restored(1, 5, "arena", ())
    for step in range(6, 10):
        second.step()
        checkpointer.snapshot(step)
    assert second.digest() == whole.digest()


@pytest.mark.parametrize("flags", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_every_kind_of_adam_resumes_bit_for_bit(fake: FakeDaemon, flags: dict[str, bool]) -> None:
    first = Training(**flags)
    checkpointer = make(first)
    for step in range(1, 4):
        first.step()
        checkpointer.snapshot(step)
    checkpointer.close()
    second = Training(seed=1, **flags)
    assert make(second).restore() == 3
    for training in (first, second):
        seed_all(3)
        training.step()
    assert digest(second.optimizer.state_dict()) == digest(first.optimizer.state_dict())
    assert digest(dict(second.model.state_dict())) == digest(dict(first.model.state_dict()))


def test_the_fence_comes_before_the_first_write_of_the_optimizer(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    training.step()
    before = {name: raw(t) for name, t in training.model.state_dict().items()}
    checkpointer.snapshot(1)
    assert fake.snapshots == []  # STABLE tensors are read at the fence
    training.step()
    for name, value in before.items():
        assert fake.newest().data[name] == value, name


def test_classes_are_by_who_may_write(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    training.step()
    checkpointer.snapshot(1)
    found = specs(fake)
    assert found["0.weight"].tensor_class == STABLE
    assert found["optimizer.state.0.weight.exp_avg"].tensor_class == STABLE
    assert found["optimizer.state.3.bias.step"].tensor_class == STABLE
    assert found["1.running_mean"].tensor_class == STAGED
    assert found["rng.torch"].tensor_class == STAGED
    assert found["extra.cursor.shuffle"].tensor_class == STAGED


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(6, 4)
        self.head = torch.nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        flat = torch.randn(12)
        self.part_a = torch.nn.Parameter(flat[:4])
        self.part_b = torch.nn.Parameter(flat[4:])
        self.turned = torch.nn.Parameter(torch.randn(3, 5).t())
        self.image = torch.nn.Parameter(
            torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
        )
        self.empty = torch.nn.Parameter(torch.zeros(0, 3))
        self.register_buffer("scalar", torch.tensor(1.5))
        self.register_buffer("spread", torch.randn(3, 1).expand(3, 4))
        self.register_buffer("absent", None)
        self.register_buffer("cache", torch.ones(3), persistent=False)
        self.register_buffer("window", self.part_a.detach()[1:3])


def test_ties_views_strides_and_empty_tensors_come_back(fake: FakeDaemon) -> None:
    torch.manual_seed(0)
    model = Tied()
    checkpointer = holdfast.Checkpointer("job", model=model)
    checkpointer.snapshot(1)
    checkpointer.fence()
    found = specs(fake)
    assert found["head.weight"].alias_of == "embedding.weight"
    assert "head.weight" not in fake.newest().data
    assert [s.name for s in found.values() if s.alias_of] == ["head.weight"]
    # A staged buffer in the same storage makes its neighbours staged too.
    assert found["part_a"].tensor_class == found["part_b"].tensor_class == STAGED
    assert found["turned"].tensor_class == STABLE
    assert "cache" not in found and "absent" not in found
    saved = {name: raw(t) for name, t in model.state_dict().items()}

    other = Tied()
    checkpointer = holdfast.Checkpointer("job", model=other)
    assert checkpointer.restore() == 1
    assert {name: raw(t) for name, t in other.state_dict().items()} == saved
    assert other.head.weight is other.embedding.weight
    assert other.turned.stride() == (1, 5) and other.spread.stride() == (1, 0)
    assert other.part_a.data_ptr() + 16 == other.part_b.data_ptr()


def test_a_snapshot_whose_ties_differ_is_refused_where_values_could_be_lost(
    fake: FakeDaemon,
) -> None:
    def pair(tied: bool) -> torch.nn.Module:
        model = torch.nn.Module()
        model.a = torch.nn.Parameter(torch.randn(3))
        model.b = model.a if tied else torch.nn.Parameter(torch.randn(3))
        return model

    separate = pair(False)
    checkpointer = holdfast.Checkpointer("job", model=separate)
    checkpointer.snapshot(1)
    checkpointer.close()
    with pytest.raises(holdfast.StateMismatchError, match='"b" is tied to "a" in the model'):
        holdfast.Checkpointer("job", model=pair(True)).restore()

    fake.snapshots.clear()
    tied = pair(True)
    checkpointer = holdfast.Checkpointer("job", model=tied)
    checkpointer.snapshot(1)
    checkpointer.close()
    assert holdfast.Checkpointer("job", model=separate).restore() == 1
    assert raw(separate.a) == raw(separate.b) == raw(tied.a)


@pytest.mark.parametrize("dtype", list(DTYPES), ids=str)
def test_every_dtype_comes_back(fake: FakeDaemon, dtype: torch.dtype) -> None:
    def holder(fill: int) -> torch.nn.Module:
        module = torch.nn.Module()
        for name, shape in [("m", (3, 5)), ("s", ()), ("e", (2, 0))]:
            size = dtype.itemsize
            count = 1
            for n in shape:
                count *= n
            bytes_ = torch.tensor([(fill * i) % 2 for i in range(count * size)], dtype=torch.uint8)
            module.register_buffer(name, bytes_.view(dtype).reshape(shape))
        return module

    model = holder(1)
    checkpointer = holdfast.Checkpointer("job", model=model)
    checkpointer.snapshot(1)
    checkpointer.close()
    other = holder(0)
    assert holdfast.Checkpointer("job", model=other).restore() == 1
    for name, buffer in model.named_buffers():
        assert raw(getattr(other, name)) == raw(buffer), name


def test_reassigned_tensors_are_seen_without_a_new_layout(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    for step in range(1, 6):
        training.step()
        for module in training.model:
            for name in module._buffers:
                module._buffers[name] = module._buffers[name] + 1
        state = training.optimizer.state[training.model[0].weight]
        state["exp_avg"] = state["exp_avg"] + 1
        training.model[3].bias.data = torch.full((4,), float(step))
        checkpointer.snapshot(step)
        checkpointer.fence()
        data = fake.newest().data
        assert data["1.running_mean"] == raw(training.model[1].running_mean)
        assert data["optimizer.state.0.weight.exp_avg"] == raw(state["exp_avg"])
        assert data["3.bias"] == raw(training.model[3].bias)
    assert len(fake.layouts) == 1


CHANGES: dict[str, Any] = {
    "a module is replaced": lambda t: setattr(t.model, "0", torch.nn.Linear(8, 16, bias=False)),
    "a parameter changes shape": lambda t: setattr(
        t.model[3].weight, "data", torch.ones(4, 8)),
    "a parameter changes shape in place": lambda t: t.model[3].weight.data.resize_(2, 16),
    "a parameter is cut": lambda t: setattr(
        t.model[3].weight, "data", t.model[3].weight.data[:2]),
    "a parameter is turned": lambda t: setattr(
        t.model[3].weight, "data", t.model[3].weight.data.t()),
    "a buffer changes type": lambda t: t.model[1].double(),
    "a parameter disappears": lambda t: t.model[3].register_parameter("bias", None),
    "a parameter appears": lambda t: t.model[3].register_parameter(
        "scale", torch.nn.Parameter(torch.ones(3))),
    "two parameters become tied": lambda t: setattr(t.model[0], "bias", t.model[1].weight),
    "optimizer state is cleared": lambda t: t.optimizer.state.clear(),
    "optimizer state is replaced": lambda t: t.optimizer.load_state_dict(
        torch.optim.AdamW(t.model.parameters(), lr=1.0).state_dict()),
    "an extra tensor changes shape": lambda t: setattr(t.cursor, "shuffle", torch.arange(4)),
    "a group is added": lambda t: t.optimizer.add_param_group(
        {"params": [torch.nn.Parameter(torch.ones(2))]}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_layout_is_seen_at_the_next_snapshot(fake: FakeDaemon, change: Any) -> None:
    training = Training()
    checkpointer = make(training)
    training.step()
    checkpointer.snapshot(1)
    checkpointer.fence()
    change(training)
    checkpointer.snapshot(2)
    checkpointer.fence()
    held = fake.newest()
    current = {k: t for k, t in training.model.state_dict().items()}
    names = {s.name: s for s in held.specs}
    for name, tensor in current.items():
        spec = names[name]
        assert spec.shape == tuple(tensor.shape) and spec.dtype == DTYPES[tensor.dtype], name
        assert held.data[spec.alias_of or name] == raw(tensor), name
    model_names = {n for n in names if not n.startswith(("optimizer.", "extra.", "rng."))}
    assert model_names == set(current)
    states = training.optimizer.state
    count = sum(len(s) for s in states.values())
    assert len([n for n in names if n.startswith("optimizer.state.")]) == count


def test_untying_is_a_new_layout(fake: FakeDaemon) -> None:
    model = Tied()
    checkpointer = holdfast.Checkpointer("job", model=model)
    checkpointer.snapshot(1)
    checkpointer.fence()
    model.head.weight = torch.nn.Parameter(model.head.weight.detach().clone() + 1)
    checkpointer.snapshot(2)
    checkpointer.fence()
    assert specs(fake)["head.weight"].alias_of is None
    assert fake.newest().data["head.weight"] == raw(model.head.weight)


def test_a_lora_merge_changes_the_layout_and_comes_back(fake: FakeDaemon) -> None:
    def with_lora() -> torch.nn.Module:
        model = torch.nn.Module()
        model.base = torch.nn.Linear(6, 6)
        model.base.weight.requires_grad_(False)
        model.lora_a = torch.nn.Parameter(torch.randn(2, 6))
        model.lora_b = torch.nn.Parameter(torch.randn(6, 2))
        return model

    model = with_lora()
    checkpointer = holdfast.Checkpointer("job", model=model)
    checkpointer.snapshot(1)
    checkpointer.fence()
    with torch.no_grad():
        model.base.weight += model.lora_b @ model.lora_a
    del model.lora_a, model.lora_b
    checkpointer.snapshot(2)
    checkpointer.close()
    assert len(fake.layouts) == 2
    merged = with_lora()
    with pytest.raises(holdfast.StateMismatchError, match='"lora_a" is not in the snapshot'):
        holdfast.Checkpointer("job", model=merged).restore()
    fake.snapshots.append(copy.copy(fake.snapshots[0]))  # the refused one was given up
    fake.snapshots[:] = [s for s in fake.snapshots if s.step == 1]
    assert holdfast.Checkpointer("job", model=merged).restore() == 1
