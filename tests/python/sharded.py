"""Two-rank FSDP2 trainings for test_sharded.py.

main's mode is "end", "die" (both, after the last step) or "columns" (cut along another dimension).
Its last layer belongs to the root, whose parameters stay gathered after a forward.
"""

from __future__ import annotations

import datetime
import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard

import holdfast
from support import digest, seed_all


def parts(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What this rank holds."""
    found = {name: p._local_tensor for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for field, value in optimizer.state[parameter].items():
            found[f"{name}.{field}"] = getattr(value, "_local_tensor", value)
    return found


def by_columns(parameter: torch.nn.Parameter) -> Shard | None:
    """Where FSDP2 can."""
    even = parameter.dim() == 2 and parameter.shape[1] % 2 == 0
    return Shard(1) if even else None


def join(rank: int, world: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, world), rank=rank, world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )


def evaluate(model: torch.nn.Module) -> None:
    with torch.no_grad():
        model(torch.ones(3, 4))


def main(rank: int, world: int, store: str, steps: int, seed: int, mode: str) -> None:
    join(rank, world, store)
    seed_all(seed)
    # Of 5 rows rank 1 holds 2, of 1 row none.
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, 5), torch.nn.Linear(5, 1)
    )
    for layer in model[:-1]:
        if mode == "columns":
            fully_shard(layer, shard_placement_fn=by_columns)
        else:
            fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    checkpointer = holdfast.Checkpointer("sharded", model=model, optimizer=optimizer)
    start = checkpointer.restore(timeout=60)
    print("restored", start, flush=True)
    for step in range(start + 1, steps + 1):
        optimizer.zero_grad()
        model(torch.randn(3, 4) + step).square().mean().backward()
        optimizer.step()
        checkpointer.prepare()
        evaluate(model)
        assert checkpointer.snapshot(step)
        checkpointer.wait(step)
    print("digest", digest([parts(model, optimizer), torch.get_rng_state()]), flush=True)
    if mode == "die":
        os.kill(os.getpid(), 9)
    checkpointer.close()
    dist.destroy_process_group()


def gathered(rank: int, world: int, store: str) -> None:
    """A snapshot between a forward and its backward, and a restore after a forward."""
    join(rank, world, store)
    seed_all(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2))
    fully_shard(model[0], reshard_after_forward=False)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    checkpointer = holdfast.Checkpointer("gathered", model=model, optimizer=optimizer)
    assert checkpointer.restore(timeout=60) == 0
    gradients, outputs = [], []
    for step in (1, 2):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        if step == 2:
            checkpointer.prepare()
            assert checkpointer.snapshot(step)
        loss.backward()
        gradients.append([p.grad._local_tensor.clone() for p in model.parameters()])
        outputs.append(loss.detach().clone())
    assert all(map(torch.equal, *gradients)), gradients
    optimizer.step()
    checkpointer.wait(2)
    checkpointer.close()
    evaluate(model)
    again = holdfast.Checkpointer("gathered", model=model, optimizer=optimizer)
    evaluate(model)
    assert again.restore(timeout=60) == 2
    with torch.no_grad():
        outputs.append(model(torch.ones(3, 4)).square().mean())
    assert outputs[0].equal(outputs[1]) and outputs[0].equal(outputs[2]), outputs
    again.close()
    dist.destroy_process_group()
