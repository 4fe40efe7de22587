#!/usr/bin/env python3
"""Trains a small GPT on the sources of Python's standard library, and survives being killed.

    mkdir -p /tmp/checkpoints
    torchrun --nproc-per-node 2 --max-restarts 3 train_gpt.py --steps 200 --persist /tmp/checkpoints

The lines that Holdfast needs are marked "# holdfast 1/5" to "5/5"; the rest is an ordinary training
with DistributedDataParallel.  Every run with the same seed gives the same bits, also when processes
or daemons were killed on the way: --out writes the digests to compare.  README.md says more.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import sysconfig
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")
# torchrun's rendezvous store outlives a restart of the workers; gloo would read the addresses of
# the dead ones from it.
os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import holdfast  # holdfast 1/5


# ---- data -------------------------------------------------------------------------------------


def standard_library() -> Tensor:
    """All sources of the standard library as one row of bytes, in a fixed order."""
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
    files = sorted(
        path for path in root.rglob("*.py") if not skipped & set(path.relative_to(root).parts)
    )
    text = bytearray().join(path.read_bytes() for path in files)
    return torch.frombuffer(text, dtype=torch.uint8)


class Batches:
    """An endless row of batches: blocks of the text, shuffled anew in each epoch, each rank taking
    its share.  Its position is part of the training's state."""

    def __init__(
        self, text: Tensor, block: int, batch: int, seed: int, rank: int, world: int
    ) -> None:
        self.text, self.block, self.batch = text, block, batch
        self.rank, self.world = rank, world
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = -1
        self.position = 0
        self.order = torch.empty(0, dtype=torch.int64)

    def next(self) -> tuple[Tensor, Tensor]:
        needed = self.batch * self.world
        if self.position + needed > len(self.order):
            blocks = (len(self.text) - 1) // self.block
            self.order = torch.randperm(blocks, generator=self.generator)
            self.epoch += 1
            self.position = 0
        start = self.position + self.rank * self.batch
        self.position += needed
        rows = [int(n) * self.block for n in self.order[start : start + self.batch]]
        data = torch.stack([self.text[r : r + self.block + 1] for r in rows]).long()
        return data[:, :-1], data[:, 1:]

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "position": self.position,
            "order": self.order,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position, self.order = state["epoch"], state["position"], state["order"]
        self.generator.set_state(state["generator"])


# ---- model ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Size:
    layers: int
    heads: int
    width: int
    block: int


SIZES = {"tiny": Size(2, 2, 64, 64), "small": Size(4, 4, 128, 96), "medium": Size(6, 6, 384, 256)}


class Block(nn.Module):
    """Attention to what came before, then a small network; both add to the stream."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = size.heads, dropout
        self.norm_1 = nn.LayerNorm(size.width)
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.out = nn.Linear(size.width, size.width)
        self.norm_2 = nn.LayerNorm(size.width)
        self.up = nn.Linear(size.width, 4 * size.width)
        self.down = nn.Linear(4 * size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = (
            part.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(width, dim=2)
        )
        rate = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        x = x + F.dropout(self.out(y.transpose(1, 2).reshape(x.shape)), rate)
        return x + F.dropout(self.down(F.gelu(self.up(self.norm_2(x)))), rate)


class GPT(nn.Module):
    """Predicts the next byte.  The output layer is tied to the embedding."""

    def __init__(self, size: Size, dropout: float = 0.1) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, size.width)
        self.positions = nn.Embedding(size.block, size.width)
        self.blocks = nn.ModuleList(Block(size, dropout) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, 256, bias=False)
        self.head.weight = self.bytes.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        h = self.bytes(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        logits = self.head(self.norm(h))
        return F.cross_entropy(logits.view(-1, 256), targets.reshape(-1))


# ---- comparing runs ---------------------------------------------------------------------------


def digests(state: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of each tensor in a nested state, and of what else is in it."""
    found: dict[str, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Tensor):
            plain = value.detach().contiguous()
            raw = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
            kind = f"{plain.dtype}{list(plain.shape)}".encode()
            found[path] = hashlib.sha256(kind + raw).hexdigest()
        elif isinstance(value, dict):
            for key in value:
                walk(f"{path}.{key}", value[key])
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                walk(f"{path}.{i}", item)
        else:
            found[path] = repr(value)

    for name, part in state.items():
        walk(name, part)
    return dict(sorted(found.items()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--batch", type=int, default=4, help="blocks for each rank and step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--job", default="train-gpt", help="name of the job")
    parser.add_argument("--persist", help="folder for durable snapshots")
    parser.add_argument("--persist-every", type=int, default=50, help="steps between them")
    parser.add_argument("--out", help="folder for digests of the final state, one file a rank")
    parser.add_argument("--log-every", type=int, default=10)
    return parser.parse_args()


# ---- training ---------------------------------------------------------------------------------


def main() -> None:
    options = arguments()
    # When a peer dies torchrun sends SIGTERM; a survivor waiting in a collective must end at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    world = dist.get_world_size() if dist.is_initialized() else 1

    size = SIZES[options.size]
    torch.manual_seed(options.seed)
    plain = GPT(size)
    # Or DDP regroups the gradients after its first step, and those of more than two ranks would be
    # added in another order in the step after a restart than in an undisturbed run.
    model = DistributedDataParallel(plain, find_unused_parameters=True) if world > 1 else plain
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=options.steps + 1)
    batches = Batches(
        standard_library(), size.block, options.batch, options.seed, rank, world
    )
    torch.manual_seed(options.seed + 1000 * rank)  # dropout differs between ranks

    ckpt = holdfast.Checkpointer(  # holdfast 2/5
        options.job, model=model, optimizer=optimizer,
        extra={"scheduler": scheduler, "batches": batches},
        persist=options.persist, persist_every=options.persist_every,
    )
    start = ckpt.restore()  # holdfast 3/5
    if rank == 0 and ckpt.restored:
        print(f"resumed after step {start} from {ckpt.restored.source}", flush=True)

    for step in range(start + 1, options.steps + 1):
        x, y = batches.next()
        loss = model(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        cast(Any, scheduler).step()
        ckpt.snapshot(step)  # holdfast 4/5
        if rank == 0 and step % options.log_every == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)

    if options.out:
        final = {
            "model": plain.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "batches": batches.state_dict(),
            "rng": torch.get_rng_state(),
        }
        folder = pathlib.Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"rank-{rank}.json").write_text(json.dumps(digests(final), indent=1) + "\n")
    ckpt.close()  # holdfast 5/5
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
