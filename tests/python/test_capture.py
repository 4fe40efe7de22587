"""What a snapshot holds and how it comes back, against a stand-in for the native library."""

from __future__ import annotations

import copy
import random
import warnings
import weakref
from typing import Any

import numpy
import pytest
import torch

import holdfast
from fake_native import FakeDaemon
from holdfast._tensors import DTYPES, STABLE, STAGED
from support import Cursor, Training, digest, raw, seed_all


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


def test_torn_snapshots_warn_once_and_training_goes_on(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(1, 4):
            training.step()
            assert checkpointer.snapshot(step)
            client: Any = checkpointer._client
            client.torn_next = 'torn: tensor "0.weight" changed'
            checkpointer.fence()
    torn = [w for w in caught if issubclass(w.category, holdfast.TornSnapshotWarning)]
    assert len(torn) == 1 and '"0.weight"' in str(torn[0].message)


def test_a_skipped_snapshot_is_false_and_says_why(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    fake.skip = "no free slot"
    result = checkpointer.snapshot(1)
    assert not result and result.skipped and result.reason == "no free slot"


def test_bytes_that_fail_their_digest_lead_to_the_next_best_snapshot(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    digests = {}
    for step in range(1, 4):
        training.step()
        checkpointer.snapshot(step)
        digests[step] = training.digest()
    checkpointer.close()
    fake.corrupt_steps = {3}
    other = Training(seed=8)
    assert make(other).restore() == 2
    assert other.digest() == digests[2]
    assert fake.finished[-2] == "step 3: chunk 0 does not match" and fake.finished[-1] is None


def test_a_start_from_nothing_on_overwritten_state_is_refused(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    training.step()
    checkpointer.snapshot(1)
    checkpointer.close()
    fake.corrupt_steps = {1}
    with pytest.raises(holdfast.CorruptionError, match="overwritten"):
        make(Training(seed=8)).restore()


def test_a_snapshot_that_does_not_fit_changes_nothing_and_lists_the_differences(
    fake: FakeDaemon,
) -> None:
    training = Training()
    checkpointer = make(training)
    training.step()
    checkpointer.snapshot(1)
    checkpointer.close()
    other = Training(seed=3)
    other.model[3] = torch.nn.Linear(16, 5)
    other.model.register_parameter("new", torch.nn.Parameter(torch.ones(2)))
    other.optimizer = torch.optim.AdamW(other.model.parameters())
    before = digest(dict(other.model.state_dict()))
    with pytest.raises(holdfast.StateMismatchError) as error:
        holdfast.Checkpointer(
            "job", model=other.model, optimizer=other.optimizer, extra={"other": Cursor()}
        ).restore()
    text = str(error.value)
    for part in ['"3.weight" is torch.float32 [4, 16] in the snapshot, torch.float32 [5, 16] here',
                 '"new" is not in the snapshot', '"extra.other" is not in the snapshot',
                 '"extra.cursor" is in the snapshot but was not given', "parameter groups"]:
        assert part in text
    assert digest(dict(other.model.state_dict())) == before
    assert fake.finished[-1] is not None


def test_restoring_a_named_step_or_none_at_all(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    for step in (1, 2):
        training.step()
        checkpointer.snapshot(step)
    checkpointer.close()
    assert make(Training()).restore(step=1) == 1
    with pytest.raises(holdfast.NotFoundError):
        make(Training()).restore(step=7)


REFUSED = {
    "is on meta": lambda: torch.nn.Linear(2, 2, device="meta"),
    "not initialised": lambda: torch.nn.LazyLinear(2),
    "sparse": lambda: _with_buffer(torch.eye(3).to_sparse()),
    "conjugate": lambda: _with_buffer(torch.ones(2, dtype=torch.complex64).conj()),
    "DTensor": lambda: _with_buffer(DTensor()),
}


class DTensor:
    """Looks like torch's, which needs a process group."""


def _with_buffer(tensor: Any) -> torch.nn.Module:
    module = torch.nn.Module()
    module.register_buffer("odd", torch.ones(1))
    module._buffers["odd"] = tensor
    return module


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_saved_is_refused_by_name(fake: FakeDaemon, text: str) -> None:
    with pytest.raises(holdfast.StateError, match=f'tensor "(odd|weight)".*{text}'):
        holdfast.Checkpointer("job", model=REFUSED[text]())
    assert fake.incarnation == 0, "refused before the job is touched"


def test_extra_objects_without_state_dict_are_refused(fake: FakeDaemon) -> None:
    with pytest.raises(holdfast.StateError, match="without state_dict"):
        holdfast.Checkpointer("job", extra={"x": object()})
    with pytest.raises(holdfast.StateError, match="without dots"):
        holdfast.Checkpointer("job", extra={"a.b": Cursor()})


def test_memory_is_held_until_the_fence_and_no_longer(fake: FakeDaemon) -> None:
    training = Training()
    checkpointer = make(training)
    training.step()
    for step in (1, 2):
        state = training.optimizer.state[training.model[0].weight]
        state["exp_avg"] = torch.full((16, 8), float(step))
        checkpointer.snapshot(step)
        expected = raw(state["exp_avg"])
        held = weakref.ref(state["exp_avg"])
        state["exp_avg"] = torch.zeros(16, 8)  # while the copy is under way
        checkpointer.fence()
        assert fake.newest().data["optimizer.state.0.weight.exp_avg"] == expected
    assert held() is None


def test_a_storage_swapped_through_data_is_held_until_the_fence(fake: FakeDaemon) -> None:
    memory = numpy.ones(8, dtype=numpy.float32)
    freed = weakref.ref(memory)
    model = torch.nn.Linear(1, 8)
    checkpointer = holdfast.Checkpointer("job", model=model)
    checkpointer.snapshot(1)
    checkpointer.fence()
    model.bias.data = torch.from_numpy(memory)
    del memory
    checkpointer.snapshot(2)
    model.bias.data = torch.zeros(8)  # while the copy is under way
    assert freed() is not None
    checkpointer.fence()
    assert fake.newest().data["bias"] == raw(torch.ones(8))
    checkpointer.snapshot(3)
    checkpointer.fence()
    assert freed() is None


def test_optimizer_state_that_the_snapshot_lacks_is_gone_after_a_restore(fake: FakeDaemon) -> None:
    fresh = Training()
    checkpointer = make(fresh)
    checkpointer.snapshot(0)
    checkpointer.close()
    warm = Training()
    warm.step()
    assert make(warm).restore() == 0
    assert not warm.optimizer.state
    assert warm.digest() == fresh.digest()


def test_close_removes_the_hooks_and_may_be_repeated(fake: FakeDaemon) -> None:
    training = Training()
    with make(training, persist="/p", persist_every=5) as checkpointer:
        assert fake.tiers == [holdfast.Tier("/p", every=5)]
        training.step()
        checkpointer.snapshot(1)
    checkpointer.close()
    assert not training.optimizer._optimizer_step_pre_hooks
    training.step()
    with pytest.raises(holdfast.InvalidArgumentError, match="closed"):
        checkpointer.snapshot(2)


def test_ranks_without_a_process_group_are_refused(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(holdfast.InvalidArgumentError, match="init_process_group"):
        make(Training())
