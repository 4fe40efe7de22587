"""What is refused, given up and let go, against a stand-in for the native library."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import numpy
import pytest
import torch

import holdfast
from fake_native import FakeDaemon
from holdfast._attempts import Wish
from support import Cursor, Training, digest, raw


def make(training: Training, **options: Any) -> holdfast.Checkpointer:
    return holdfast.Checkpointer(
        "job", model=training.model, optimizer=training.optimizer, extra=training.extra, **options
    )


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


def test_a_negative_step_is_not_the_newest() -> None:
    with pytest.raises(holdfast.InvalidArgumentError, match="not negative"):
        Wish(-1, False, 0.0)
