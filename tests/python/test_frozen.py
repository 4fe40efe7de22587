"""Frozen parameters, with a real daemon and a model shaped as in a LoRA fine-tune."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import warnings

import pytest
import torch

import holdfast
from lora import Lora
from node import Node
from support import make, take

HERE = pathlib.Path(__file__).resolve().parent
MIB = 1 << 20


def near_adapter_size(training: Lora, found: int) -> bool:
    """Adapters and two moments of each; header, scalars and random numbers beside them."""
    return 3 * training.adapter_bytes() <= found <= 3 * training.adapter_bytes() + 128 * 1024


def test_snapshots_have_the_size_of_the_adapters(node: Node) -> None:
    training = Lora()
    assert training.frozen_bytes() > 10 * training.adapter_bytes()
    with make(training) as checkpointer:
        checkpointer.restore()
        for step in range(1, 6):
            training.step()
            checkpointer.prepare()
            result = checkpointer.snapshot(step)
            assert result, result.reason
            checkpointer.wait(step)
            assert near_adapter_size(training, result.bytes)
            first = training.frozen_bytes() <= result.static_bytes < training.frozen_bytes() + MIB
            assert first if step == 1 else result.static_bytes == 0
        stats = checkpointer.stats
        assert stats.sealed == 5
        assert near_adapter_size(training, stats.image_bytes)
        assert stats.copied_bytes == 5 * stats.image_bytes
        assert stats.static_copied_bytes == stats.static_bytes >= training.frozen_bytes()


def test_memory_holds_the_frozen_tensors_once(node: Node) -> None:
    training = Lora()
    with make(training) as checkpointer:
        checkpointer.restore()
        for step in range(1, 5):
            training.step()
            take(checkpointer, step)
        slots = node.arena / "slots"
        sizes = sorted(p.stat().st_size for p in slots.iterdir())
        assert sum(size >= training.frozen_bytes() for size in sizes) == 1
        assert sum(sizes) < 2 * training.frozen_bytes()


PROGRAM = """
import os, signal
from lora import Lora
import holdfast
t = Lora()
c = holdfast.Checkpointer("job", model=t.model, optimizer=t.optimizer)
c.restore()
for step in range(1, 6):
    t.step(); c.prepare(); assert c.snapshot(step); c.wait(step)
print(t.digest(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed() -> str:
    """Trains five steps in a process that is killed; the digest of what it had."""
    path = os.pathsep.join([str(HERE.parents[1] / "client/python"), str(HERE)])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    return result.stdout.split()[0]


def test_a_killed_fine_tune_comes_back_bit_for_bit_and_shares_on(node: Node) -> None:
    """I2, I5: base and adapters alike.  The restored process copies no frozen byte again."""
    was = killed()
    training = Lora(seed=7, base_seed=9)
    with make(training) as checkpointer:
        assert checkpointer.restore() == 5
        assert training.digest() == was
        training.step()
        checkpointer.prepare()
        result = checkpointer.snapshot(6)
        assert result, result.reason
        checkpointer.wait(6)
        assert result.static_bytes == 0
        assert checkpointer.stats.static_copied_bytes == 0
        sizes = [p.stat().st_size for p in (node.arena / "slots").iterdir()]
        assert sum(size >= training.frozen_bytes() for size in sizes) == 1


def test_another_base_is_never_taken_for_the_one_in_memory(node: Node) -> None:
    """I5, I7: a start from another base model compares all of it, and copies it anew."""
    with make(Lora()) as checkpointer:
        take(checkpointer, 1)
    other = Lora(base_seed=3)
    with torch.no_grad():  # one element of one tensor
        plain = Lora()
        for name, parameter in other.frozen.items():
            parameter.copy_(plain.frozen[name])
        other.frozen["blocks.1.up.base.weight"][700, 13] += 1
    with make(other) as checkpointer:
        checkpointer.prepare()
        assert checkpointer.snapshot(2)
        with pytest.raises(holdfast.AbandonedError, match="blocks.1.up.base.weight"):
            checkpointer.wait(2)
        take(checkpointer, 3)
        assert checkpointer.stats.static_copied_bytes > other.frozen_bytes()
    base = other.base()
    fresh = Lora(base_seed=5)
    with make(fresh) as checkpointer:
        assert checkpointer.restore() == 3
        assert fresh.base() == base


def test_a_written_tensor_is_named_and_saved_like_all_others_from_then_on(node: Node) -> None:
    """I7: no snapshot seals that holds another value than the training had."""
    training = Lora()
    with make(training) as checkpointer:
        checkpointer.restore()
        training.step()
        take(checkpointer, 1)
        name = "blocks.2.down.base.weight"
        with torch.no_grad():
            training.frozen[name].mul_(1.5)
        checkpointer.prepare()
        assert checkpointer.snapshot(2)
        with pytest.warns(holdfast.TornSnapshotWarning, match=name):
            checkpointer.fence()
        with pytest.raises(holdfast.AbandonedError, match=name):
            checkpointer.wait(2)
        with torch.no_grad():
            training.frozen[name].mul_(1.5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            take(checkpointer, 3)
        was = training.digest()
        assert checkpointer.stats.image_bytes > training.frozen[name].nbytes
    other = Lora(seed=4, base_seed=4)
    with make(other) as checkpointer:
        assert checkpointer.restore() == 3
        assert other.digest() == was


def test_a_layer_that_is_unfrozen_is_saved_from_the_next_snapshot_on(node: Node) -> None:
    training = Lora()
    with make(training) as checkpointer:
        checkpointer.restore()
        training.step()
        take(checkpointer, 1)
        weight = training.frozen["blocks.0.out.base.weight"].requires_grad_(True)
        training.optimizer.add_param_group({"params": [weight]})
        training.step()
        take(checkpointer, 2)
        assert checkpointer.stats.torn == 0
        assert checkpointer.stats.image_bytes > 3 * training.adapter_bytes() + weight.nbytes


def test_optimizer_state_appears_and_the_base_is_not_copied_again(node: Node) -> None:
    """Another layout with the same frozen tensors goes on with their image."""
    training = Lora()
    with make(training) as checkpointer:
        checkpointer.restore()
        take(checkpointer, 1)
        before = checkpointer.stats.static_copied_bytes
        for step in range(2, 5):
            training.step()
            take(checkpointer, step)
        assert checkpointer.stats.image_bytes > 3 * training.adapter_bytes()
        assert checkpointer.stats.static_copied_bytes == before > 0


def test_the_user_may_name_more_or_switch_it_off(node: Node) -> None:
    training = Lora()
    training.model.register_buffer("table", torch.arange(1 << 20, dtype=torch.float32))
    with make(training, frozen=["table"]) as checkpointer:
        checkpointer.prepare()
        assert checkpointer.stats.static_bytes > training.frozen_bytes() + (4 << 20)
    with make(training, frozen=False) as checkpointer:
        checkpointer.prepare()
        assert checkpointer.stats.static_bytes == 0
        assert checkpointer.stats.image_bytes > training.frozen_bytes() + (4 << 20)
    with pytest.raises(holdfast.StateError, match="no tensor or module"):
        make(training, frozen=["tabel"])
    with pytest.raises(holdfast.StateError, match="an optimizer trains"):
        make(training, frozen=["blocks.0"])


def test_what_does_not_fit_says_both_sizes(node: Node) -> None:
    """I9."""
    training = Lora()
    training.model.register_buffer("table", torch.zeros(160 << 20))
    with make(training, frozen=["table"]) as checkpointer:
        with pytest.raises(holdfast.NoSpaceError, match="for its frozen tensors"):
            checkpointer.prepare()


@pytest.mark.parametrize("shared", ["buffer", "trained"])
def test_a_view_of_what_is_written_is_not_frozen(node: Node, shared: str) -> None:
    """I7: a frozen parameter that shares its memory with what changes."""
    training = Lora()
    whole = torch.zeros(2, 50_000)
    training.model.register_parameter("view", torch.nn.Parameter(whole[0], requires_grad=False))
    if shared == "buffer":
        training.model.register_buffer("whole", whole[1])
    else:
        training.model.register_parameter("whole", torch.nn.Parameter(whole[1]))
    with make(training) as checkpointer:
        checkpointer.prepare()
        assert checkpointer.stats.image_bytes > whole.nbytes


# ---- the persistent tier ----------------------------------------------------------------------


def statics(node: Node) -> list[str]:
    """Folders with a static image."""
    found = (node.root / "job").glob("step-*/rank-00000.static.safetensors")
    return sorted(p.parent.name for p in found)


def folders(node: Node) -> list[str]:
    return sorted(p.name for p in (node.root / "job").glob("step-*"))


def durable(checkpointer: holdfast.Checkpointer, training: Lora, step: int) -> None:
    training.step()
    take(checkpointer, step)
    assert checkpointer.drain().durable


def test_a_tier_gets_the_frozen_tensors_once_and_keeps_their_owner(node: Node) -> None:
    """I6: retention takes no folder whose static image a kept manifest names."""
    training = Lora()
    with make(training, persist=node.root, persist_every=1, keep_last=2) as checkpointer:
        checkpointer.restore()
        for step in range(1, 7):
            durable(checkpointer, training, step)
        was = training.digest()
    assert statics(node) == ["step-00000001.i0001"]
    assert folders(node) == ["step-00000001.i0001", "step-00000005.i0001", "step-00000006.i0001"]
    for folder in folders(node)[1:]:
        assert sum(p.stat().st_size for p in (node.root / "job" / folder).iterdir()) < MIB
    refused = node.cli("rm", "job", "1@1", "--root", str(node.root), "--yes")
    assert refused.returncode != 0 and "static image" in refused.stderr, refused.stderr
    assert node.cli("verify", "job").returncode == 0, node.cli("verify", "job").stdout
    node.kill()
    node.lose_memory()
    node.start()
    other = Lora(seed=7, base_seed=9)
    with make(other, persist=node.root, persist_every=1, keep_last=2) as checkpointer:
        assert checkpointer.restore() == 6
        assert checkpointer.restored is not None and "persistent" in checkpointer.restored.source
        assert other.digest() == was


def test_the_first_durable_snapshot_owns_the_image_not_the_first_one(node: Node) -> None:
    training = Lora()
    with make(training, persist=node.root, persist_every=4) as checkpointer:
        checkpointer.restore()
        for step in range(1, 10):
            training.step()
            take(checkpointer, step)
        assert checkpointer.drain().durable
    assert len(statics(node)) == 1
    assert statics(node)[0] >= "step-00000004.i0001"


def test_a_restored_fine_tune_goes_on_with_the_file_of_its_predecessor(node: Node) -> None:
    training = Lora()
    with make(training, persist=node.root, persist_every=1) as checkpointer:
        durable(checkpointer, training, 1)
    again = Lora(seed=2, base_seed=2)
    with make(again, persist=node.root, persist_every=1) as checkpointer:
        assert checkpointer.restore() == 1
        durable(checkpointer, again, 2)
        was = again.digest()
    assert statics(node) == ["step-00000001.i0001"]
    node.kill()
    node.lose_memory()
    node.start()
    other = Lora(seed=5, base_seed=5)
    with make(other, persist=node.root) as checkpointer:
        assert checkpointer.restore() == 2
        assert other.digest() == was


def test_the_cli_sees_both_images(node: Node, tmp_path: pathlib.Path) -> None:
    training = Lora()
    with make(training, persist=node.root, persist_every=1) as checkpointer:
        durable(checkpointer, training, 1)
        durable(checkpointer, training, 2)
        for place in ([], ["--root", str(node.root)]):
            newest = node.json("ls", "job", *place)["snapshots"][0]
            assert near_adapter_size(training, newest["bytes"])
            assert newest["static_bytes"] >= training.frozen_bytes()
            out = tmp_path / ("memory" if not place else "tier")
            done = node.cli("export", "job", "2@1", "--to", str(out), *place)
            assert done.returncode == 0, done.stderr
            assert (out / "rank-00000.static.safetensors").stat().st_size > training.frozen_bytes()
        assert node.json("status")["arena"]["static_bytes"] >= training.frozen_bytes()
        assert node.cli("verify", "job").returncode == 0
    copy = tmp_path / "copy"
    copy.mkdir()
    done = node.cli(
        "restore", "job", "2@1", "--from-root", str(node.root), "--to-root", str(copy)
    )
    assert done.returncode == 0, done.stderr
    assert list(copy.glob("job/*/rank-00000.static.safetensors"))
    assert node.cli("verify", "job", "--root", str(copy)).returncode == 0
