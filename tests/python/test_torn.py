"""I7: a torn copy never seals.  Real writers that run while a copy is under way."""

from __future__ import annotations

import json
import pathlib
import struct
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch

import holdfast
from node import Node, wait_for
from support import Training, make, raw, take

RUNS = 100
STEPS = 10_000
ELEMENTS = 4 << 20  # 16 chunks of 1 MiB in each of weight, exp_avg and exp_avg_sq


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", holdfast.TornSnapshotWarning)
        yield


class Large:
    """One large parameter and fused AdamW."""

    def __init__(self) -> None:
        self.model = torch.nn.Module()
        self.model.weight = torch.nn.Parameter(torch.randn(ELEMENTS))
        self.model.weight.grad = torch.randn(ELEMENTS)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, fused=True)
        self.optimizer.step()

    def bytes(self) -> dict[str, bytes]:
        state = self.optimizer.state[self.model.weight]
        return {
            "weight": raw(self.model.weight),
            "optimizer.state.0.weight.exp_avg": raw(state["exp_avg"]),
            "optimizer.state.0.weight.exp_avg_sq": raw(state["exp_avg_sq"]),
        }


def sealed_bytes(node: Node, updates: int) -> dict[str, bytes]:
    """The large tensors of a sealed image, read from the arena itself; the optimizer's own counter
    tells whose slot a file is."""
    for path in (node.arena / "slots").iterdir():
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        at = {n: slice(*(8 + length + o for o in t["data_offsets"])) for n, t in header.items()}
        name = "optimizer.state.0.weight.step"
        if struct.unpack("<f", data[at[name]])[0] == updates:
            return {n: data[at[n]] for n in at if n != name}
    raise AssertionError(f"no slot holds {updates} updates")


def chunk_of(run: int) -> int:
    """Which chunk of the copy is held up in this run: all of them in turn."""
    return 1 + run % (3 * ELEMENTS * 4 // (1 << 20))


def test_a_step_that_falls_between_any_two_chunks_is_caught_every_time(
    node: Node, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that comes before the last chunk only, when all else is copied; and close() says that
    what it waited for is not the last one."""
    training = Large()
    with make(training, auto_fence=False) as checkpointer:
        checkpointer.restore()
        for run in range(1, RUNS + 1):
            checkpointer.prepare()
            go = tmp_path / f"go-{run}"
            holdfast.arm_failpoints(f"client.copy.chunk=wait:{go}@{chunk_of(run)}")
            assert checkpointer.snapshot(run)
            training.optimizer.step()
            go.touch()
            checkpointer.fence()
            assert checkpointer.stats.torn == run
        assert checkpointer.stats.sealed == 0
    assert f"step {RUNS} was begun and given up" in caplog.text


def test_an_optimizer_that_races_with_the_copy_never_seals_a_mixture(
    node: Node, tmp_path: pathlib.Path
) -> None:
    """The copy goes on from another chunk in each run when the optimizer has begun to write.  What
    is not given up is the state before, bit for bit: the optimizer came after the copy."""
    training = Large()
    torch.set_num_threads(4)
    torn = 0
    with make(training, auto_fence=False) as checkpointer:
        checkpointer.restore()
        for run in range(1, RUNS + 1):
            checkpointer.prepare()
            before = training.bytes()
            first = float(training.model.weight.detach()[0])
            go = tmp_path / f"go-{run}"
            holdfast.arm_failpoints(f"client.copy.chunk=wait:{go}@{chunk_of(run)}")
            assert checkpointer.snapshot(run)
            update = threading.Thread(target=training.optimizer.step)
            update.start()
            wait_for("the first write", lambda: float(training.model.weight.detach()[0]) != first or None)
            go.touch()
            checkpointer.fence()
            update.join()
            if checkpointer.stats.torn == torn:
                checkpointer.wait(run)
                found = sealed_bytes(node, run)
                assert all(found[name] == before[name] for name in before), f"run {run}"
            torn = checkpointer.stats.torn
        assert torn > 0
    torch.set_num_threads(1)


def test_a_writer_that_never_rests_is_caught_every_time(
    node: Node, tmp_path: pathlib.Path
) -> None:
    """An average that a thread keeps beside the training, without a fence."""
    training = Large()
    average = torch.nn.Module()
    average.weight = torch.nn.Parameter(torch.zeros(ELEMENTS))
    over = threading.Event()
    passes = [0]

    def keep() -> None:
        with torch.no_grad():
            while not over.is_set():
                average.weight.add_(1.0)
                passes[0] += 1

    models = {"model": training.model, "average": average}
    with holdfast.Checkpointer("job", model=models, optimizer=training.optimizer) as checkpointer:
        checkpointer.restore()
        checkpointer.prepare()
        writer = threading.Thread(target=keep)
        writer.start()
        try:
            for run in range(1, RUNS + 1):
                checkpointer._client.wait_ready(10)  # type: ignore[union-attr]
                go = tmp_path / f"go-{run}"
                holdfast.arm_failpoints(f"client.copy.chunk=wait:{go}@{chunk_of(run)}")
                assert checkpointer.snapshot(run)
                begun = passes[0]
                wait_for("a pass", lambda: passes[0] > begun + 1 or None)
                go.touch()
                checkpointer.fence()
                assert checkpointer.stats.torn == run
        finally:
            over.set()
            writer.join()
        holdfast.arm_failpoints("")
        assert checkpointer.stats.sealed == 0
        take(checkpointer, RUNS + 1)


def test_ten_thousand_fenced_snapshots_raise_no_alarm(node: Node) -> None:
    """At the trainer's own pace first, as many as have a slot then."""
    model = torch.nn.Linear(64, 128)  # above 16 KiB: copied behind training
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    with holdfast.Checkpointer("job", model=model, optimizer=optimizer) as checkpointer:
        checkpointer.restore()
        optimizer.step()
        checkpointer.prepare()
        for step in range(1, STEPS + 1):
            checkpointer.snapshot(step)
            optimizer.step()
        stats = checkpointer.stats
        assert stats.torn == stats.failed == 0
        assert stats.begun + stats.skipped == STEPS, stats
        # One that finds no slot free is skipped, which proves nothing: so as many more are waited
        # for as make up a snapshot at every step.
        began = stats.begun
        for step in range(STEPS + 1, 2 * STEPS + 1 - began):
            checkpointer._client.wait_ready(10)  # type: ignore[union-attr]
            assert checkpointer.snapshot(step)
            optimizer.step()
        checkpointer.fence()
        stats = checkpointer.stats
        assert stats.torn == stats.failed == 0
        assert stats.begun == STEPS, stats


def test_fenced_training_raises_no_false_alarm(node: Node) -> None:
    training = Training()
    with make(training) as checkpointer:
        checkpointer.restore()
        for step in range(1, 301):
            training.step()
            checkpointer.snapshot(step)
        assert checkpointer.stats.torn == 0
        assert checkpointer.stats.sealed > 0
