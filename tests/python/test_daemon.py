"""One trainer and a real daemon: what is saved comes back, and what goes wrong is told."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import time
import warnings
from typing import Any

import pytest
import safetensors.torch
import torch

import holdfast
from holdfast._tensors import DTYPES
from node import Node, wait_for
from support import Training, digest, make, raw, run, take

HERE = pathlib.Path(__file__).resolve().parent


class EverythingModel(torch.nn.Module):
    """All element types, ties, views, strides, scalars and nothing at all."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)

        def random(dtype: torch.dtype, *shape: int) -> torch.Tensor:
            count = dtype.itemsize
            for n in shape:
                count *= n
            high = 2 if dtype is torch.bool else 256
            bits = torch.randint(0, high, (count,), generator=rng, dtype=torch.uint8)
            return bits.view(dtype).reshape(shape)

        for dtype in DTYPES:
            name = str(dtype).removeprefix("torch.")
            self.register_buffer(f"{name}_matrix", random(dtype, 5, 7))
            self.register_buffer(f"{name}_scalar", random(dtype))
            self.register_buffer(f"{name}_empty", random(dtype, 3, 0))
        self.table = torch.nn.Parameter(random(torch.bfloat16, 300, 1000))
        self.tied = self.table
        self.turned = torch.nn.Parameter(random(torch.uint8, 64, 48).float().t())
        flat = random(torch.uint8, 1000).float()
        self.part_a = torch.nn.Parameter(flat[:333])
        self.part_b = torch.nn.Parameter(flat[333:])
        self.every_other = torch.nn.Parameter(random(torch.uint8, 2001).float()[::2])
        self.register_buffer("spread", random(torch.uint8, 3, 1).float().expand(3, 9))


def test_all_types_ties_strides_and_empty_tensors_come_back(node: Node) -> None:
    model = EverythingModel(1)
    saved = {name: raw(t) for name, t in model.state_dict().items()}
    checkpointer = holdfast.Checkpointer("job", model=model)
    assert checkpointer.restore() == 0
    take(checkpointer, 7)
    checkpointer.close()
    other = EverythingModel(2)
    again = holdfast.Checkpointer("job", model=other)
    assert again.restore() == 7
    assert again.restored is not None and again.restored.source == "arena"
    for name, tensor in other.state_dict().items():
        assert raw(tensor) == saved[name], name
    assert other.tied is other.table
    again.close()


def test_a_restart_goes_on_bit_for_bit_though_the_layout_changed_after_the_first_step(
    node: Node,
) -> None:
    whole = Training()
    for _ in range(8):
        whole.step()
    first = Training()
    checkpointer = make(first)
    checkpointer.restore()
    take(checkpointer, 0)  # without optimizer state
    for step in range(1, 5):
        first.step()
        take(checkpointer, step)
    checkpointer.close()
    second = Training(seed=4)
    with make(second) as checkpointer:
        assert checkpointer.restore() == 4
        for step in range(5, 9):
            second.step()
            checkpointer.snapshot(step)
        assert second.digest() == whole.digest()


def test_the_default_device_of_the_program_does_not_matter(node: Node) -> None:
    """With torch.set_default_device("cuda") everything made without a device lies there."""
    training, again = Training(), Training(seed=1)
    for each in (training, again):
        each.cursor.shuffle = each.cursor.shuffle.repeat(100_000)  # state as large as a tensor
        with torch.no_grad():
            each.model[0].weight.data = each.model[0].weight.t().contiguous().t()
    training.step()
    with torch.device("meta"):
        with make(training) as checkpointer:
            checkpointer.restore()
            take(checkpointer, 1)
        with make(again) as checkpointer:
            assert checkpointer.restore() == 1
    assert again.digest() == training.digest()


def test_a_lora_merge_between_two_snapshots_comes_back_as_it_was(node: Node) -> None:
    class Lora(torch.nn.Module):
        def __init__(self, merged: bool) -> None:
            super().__init__()
            self.base = torch.nn.Linear(32, 32)
            if not merged:
                self.a = torch.nn.Parameter(torch.randn(4, 32))
                self.b = torch.nn.Parameter(torch.randn(32, 4))

    model = Lora(merged=False)
    checkpointer = holdfast.Checkpointer("job", model=model)
    checkpointer.restore()
    take(checkpointer, 1)
    checkpointer.fence()
    with torch.no_grad():
        model.base.weight += model.b @ model.a
    del model.a, model.b
    take(checkpointer, 2)
    checkpointer.close()
    merged = Lora(merged=True)
    with holdfast.Checkpointer("job", model=merged) as again:
        assert again.restore() == 2
        assert raw(merged.base.weight) == raw(model.base.weight)


class Large:
    """Enough bytes that a copy takes a while, trained without a fence."""

    def __init__(self, kind: dict[str, bool]) -> None:
        self.model = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(8)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, **kind)
        for parameter in self.model.parameters():
            parameter.grad = torch.randn_like(parameter)


@pytest.mark.parametrize(
    "kind",
    [{"foreach": False}, {"foreach": True}, {"fused": True}],
    ids=["for", "foreach", "fused"],
)
def test_training_that_skips_the_fence_is_caught_every_time(
    node: Node, tmp_path: pathlib.Path, kind: dict[str, bool]
) -> None:
    """I7: a torn copy never seals."""
    training = Large(kind)
    training.optimizer.step()
    with make(training, auto_fence=False) as checkpointer:
        checkpointer.restore()
        checkpointer.prepare()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", holdfast.TornSnapshotWarning)
            for step in range(1, 101):
                go = tmp_path / f"go-{step}"
                checkpointer._client.wait_ready(10)  # type: ignore[union-attr]
                holdfast.arm_failpoints(f"client.copy.chunk=wait:{go}")
                assert checkpointer.snapshot(step)
                training.optimizer.step()
                go.touch()
                checkpointer.fence()
                assert checkpointer.stats.torn == step
        holdfast.arm_failpoints("")
        assert checkpointer.stats.sealed == 0
        take(checkpointer, 101)
        assert checkpointer.stats.sealed == 1


def test_a_torn_snapshot_warns_with_the_tensors_name(node: Node, tmp_path: pathlib.Path) -> None:
    training = Large({})
    training.optimizer.step()
    with make(training) as checkpointer:
        checkpointer.restore()
        checkpointer.prepare()
        holdfast.arm_failpoints(f"client.copy.chunk=wait:{tmp_path / 'go'}")
        assert checkpointer.snapshot(1)
        training.model[5].weight.data.add_(1)
        (tmp_path / "go").touch()
        with pytest.warns(holdfast.TornSnapshotWarning, match="5.weight"):
            training.optimizer.step()


def test_training_goes_on_while_the_daemon_is_dead_and_snapshots_go_on_after(node: Node) -> None:
    training = Training()
    checkpointer = make(training)
    checkpointer.restore()
    for step in range(1, 4):
        training.step()
        take(checkpointer, step)
    before = node.sealed()
    node.kill()
    for step in range(4, 8):
        training.step()
        wait_for("the loss to be seen", lambda: None if checkpointer.stats.connected else True)
        result = checkpointer.snapshot(step)
        assert result.skipped and result.reason
    node.start()
    assert before <= node.sealed()
    wait_for("the connection", lambda: checkpointer.stats.connected or None)
    training.step()
    take(checkpointer, 8)
    expected = training.digest()
    assert checkpointer.stats.reconnects >= 1
    checkpointer.close()
    other = Training(seed=2)
    with make(other) as again:
        assert again.restore() == 8
        assert other.digest() == expected


def test_close_tells_that_the_last_snapshots_were_skipped(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training()
    with caplog.at_level(logging.WARNING, "holdfast"):
        with make(training) as checkpointer:
            checkpointer.restore()
            training.step()
            take(checkpointer, 1)
            node.kill()
            for step in (2, 3):
                training.step()
                assert not checkpointer.snapshot(step)
            node.start()
    assert "step 3 was skipped: the newest snapshot that is complete is step 1" in caplog.text


def test_an_old_start_of_the_job_is_fenced(node: Node) -> None:
    """I8: what a newer incarnation fences changes nothing any more."""
    old = make(Training())
    old.restore()
    take(old, 1)
    new = make(Training())
    assert new.restore() == 1
    with pytest.raises(holdfast.FencedError):
        for step in range(2, 10_000):
            old.snapshot(step)
            time.sleep(0.001)
    take(new, 5)
    new.close()
    old.close(drain=False)


def test_a_second_trainer_of_the_same_rank_is_refused(node: Node) -> None:
    program = (
        "import sys, json, holdfast, torch\n"
        "from holdfast._client import Client\n"
        "from holdfast._values import Incarnation\n"
        "uid, number, token = json.loads(sys.argv[1])\n"
        "client = Client(sys.argv[2], 5)\n"
        "client.join('job', Incarnation(bytes.fromhex(uid), number, token), 0, 1)\n"
        "try:\n"
        "    client.set_layout([])\n"
        "except holdfast.AlreadyExistsError as error:\n"
        "    print('refused:', error)\n"
        "client.close()\n"
    )
    with make(Training()) as checkpointer:
        checkpointer.restore()
        checkpointer.prepare()
        made = checkpointer.incarnation
        answer = run(
            "-c", program, json.dumps([made.job_uid.hex(), made.number, made.token]),
            os.environ["HOLDFAST_SOCKET"],
        )
        assert "refused:" in answer and str(os.getpid()) in answer
        take(checkpointer, 1)


def test_a_persistent_folder_is_read_with_safetensors_alone(
    node: Node, tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "durable"
    root.mkdir()
    training = Training()
    with make(training, persist=root, persist_every=2) as checkpointer:
        checkpointer.restore()
        for step in range(1, 4):
            training.step()
            take(checkpointer, step)
    # close() drained: the last one is durable though 3 is no multiple of 2.
    (file,) = root.glob("job/step-00000003.i*/rank-00000.safetensors")
    held = safetensors.torch.load_file(file)
    for name, tensor in training.model.state_dict().items():
        assert raw(held[name]) == raw(tensor), name
    state = training.optimizer.state[training.model[0].weight]
    assert raw(held["optimizer.state.0.weight.exp_avg"]) == raw(state["exp_avg"])


def test_a_lost_arena_is_replaced_by_the_persistent_folder(
    node: Node, tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "durable"
    root.mkdir()
    training = Training()
    with make(training, persist=root) as checkpointer:
        checkpointer.restore()
        training.step()
        take(checkpointer, 1)
        expected = training.digest()
    node.stop()
    node.lose_memory()
    node.start()
    other = Training(seed=3)
    with make(other, persist=root) as again:
        assert again.restore() == 1
        assert again.restored is not None and again.restored.source == f"persistent {root}"
        assert other.digest() == expected


def test_a_cut_image_in_memory_is_replaced_by_the_persistent_folder(
    node: Node, tmp_path: pathlib.Path
) -> None:
    """I5, I11: the attempt fails for its source, and the next one has another."""
    root = tmp_path / "durable"
    root.mkdir()
    training = Training()
    with make(training, persist=root) as checkpointer:
        checkpointer.restore()
        training.step()
        take(checkpointer, 1)
        expected = training.digest()
    for slot in (node.arena / "slots").iterdir():
        os.truncate(slot, 4096)
    other = Training(seed=3)
    with make(other, persist=root) as again:
        assert again.restore(timeout=60) == 1
        assert again.restored is not None and again.restored.source == f"persistent {root}"
        assert other.digest() == expected


def test_a_named_step_puts_newer_ones_aside(node: Node, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "durable"
    root.mkdir()
    policy = {"persist": root, "persist_every": 1, "keep_last": 5}
    training = Training()
    checkpointer = make(training, **policy)
    checkpointer.restore()
    seen = {}
    for step in range(1, 4):
        training.step()
        take(checkpointer, step)
        checkpointer.drain()
        seen[step] = training.digest()
    checkpointer.close()
    other = Training(seed=3)
    with make(other, **policy) as again:
        assert again.restore(step=2) == 2
        assert other.digest() == seen[2]
    other = Training(seed=5)
    with make(other, **policy) as again:
        assert again.restore() == 2, "the newer one stays put aside"
    with make(Training(), **policy) as again:
        with pytest.raises(holdfast.NotFoundError):
            again.restore(step=99)


def test_a_snapshot_that_does_not_fit_is_refused_with_the_differences(node: Node) -> None:
    checkpointer = holdfast.Checkpointer("job", model=torch.nn.Linear(3, 4))
    checkpointer.restore()
    take(checkpointer, 1)
    checkpointer.close()
    other = torch.nn.Linear(3, 5)
    before = digest(dict(other.state_dict()))
    again = holdfast.Checkpointer("job", model=other)
    with pytest.raises(holdfast.StateMismatchError, match=r'"weight" is torch.float32 \[4, 3\]'):
        again.restore()
    assert digest(dict(other.state_dict())) == before
    again.close(drain=False)
    fitting = torch.nn.Linear(3, 4)
    with holdfast.Checkpointer("job", model=fitting) as third:
        assert third.restore() == 1, "a refusal by the trainer does not spoil the snapshot"
