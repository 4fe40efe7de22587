"""The training that is measured: a GPT with AdamW, and an iteration of a wanted duration."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from device import Device
from settings import Sizes


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = (
            part.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        hidden: Tensor = x + self.down(F.gelu(self.up(self.norm_2(x))))
        return hidden


class GPT(nn.Module):
    """The output layer is tied to the embedding."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = nn.Embedding(sizes.length, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        hidden = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        logits = F.linear(self.norm(hidden), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one iteration goes over: "parts" times forward and backward, then the update."""

    rows: int
    length: int
    parts: int = 1

    def __str__(self) -> str:
        return f"{self.parts} x {self.rows} x {self.length} tokens"


def nothing() -> None:
    pass


class Training:
    """Objects and loop of one training.  "wrap": what DDP needs around the model."""

    def __init__(
        self, sizes: Sizes, device: Device, wrap: Callable[[nn.Module], nn.Module] | None = None
    ) -> None:
        torch.manual_seed(1)
        self.sizes, self.device = sizes, device
        with torch.device(device.torch):
            self.model: nn.Module = GPT(sizes)
        if wrap is not None:
            self.model = wrap(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=device.cuda)
        shape = (sizes.vocabulary, (128, sizes.length + 1))
        self._text = torch.randint(*shape, device=device.torch)
        self._next = 0
        self.batch = Batch(2, sizes.length)

    def iterate(self, before_update: Callable[[], None] = nothing) -> None:
        rows, length = self.batch.rows, self.batch.length
        for _ in range(self.batch.parts):
            at = self._next % max(1, len(self._text) - rows)
            self._next += rows
            text = self._text[at : at + rows, : length + 1]
            with torch.autocast(self.device.torch.type, torch.bfloat16, enabled=self.device.cuda):
                loss = self.model(text[:, :-1], text[:, 1:])
            (loss / self.batch.parts).backward()
        before_update()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Every tensor of model and optimizer, as Holdfast names it; of a sharded one what this
        rank holds."""
        found: dict[str, Tensor] = {}
        names: dict[int, str] = {}
        for name, parameter in self.model.named_parameters():
            name = name.removeprefix("module.")
            found[name] = _local(parameter.detach())
            names[id(parameter)] = name
        for owner, fields in self.optimizer.state.items():
            for field, value in fields.items():
                found[f"optimizer.state.{names[id(owner)]}.{field}"] = _local(value)
        return found

    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.state().values())

    def destroy(self) -> None:
        """Overwrites the state, so that a restore has something to do."""
        for tensor in self.state().values():
            tensor.zero_()

    # ---- a batch for an iteration of so many milliseconds ----

    def milliseconds(self, batch: Batch, times: int = 3) -> float:
        self.batch = batch
        self.iterate()
        self.device.sync()
        began = time.perf_counter()
        for _ in range(times):
            self.iterate()
        self.device.sync()
        return 1e3 * (time.perf_counter() - began) / times

    def calibrate(self, wanted: float, kept_free: int) -> Batch:
        """Chooses the batch; "kept_free" bytes of the device's memory are for others."""
        length = self.sizes.length
        if not self.device.cuda or length < 256:
            return self.batch  # a dry run
        few, many = 2, 6
        took, peak = {}, {}
        for rows in (few, many):
            torch.cuda.reset_peak_memory_stats(self.device.index)
            took[rows] = self.milliseconds(Batch(rows, length))
            peak[rows] = torch.cuda.max_memory_allocated(self.device.index)
        row_ms = (took[many] - took[few]) / (many - few)
        row_bytes = (peak[many] - peak[few]) // (many - few)
        wanted_rows = max(0.5, few + (wanted - took[few]) / row_ms)
        total = torch.cuda.mem_get_info(self.device.index)[1]
        room = int(0.9 * total) - kept_free - (peak[few] - few * row_bytes)
        most_rows = max(1, min(96, room // row_bytes))
        parts = math.ceil(wanted_rows / most_rows)
        rows = math.ceil(wanted_rows / parts)
        batch = Batch(rows, _sixteens(length * wanted_rows / (parts * rows)), parts)
        now = self.milliseconds(batch)
        trimmed = min(length, _sixteens(batch.length * wanted / now))
        self.batch = dataclasses.replace(batch, length=trimmed)
        return self.batch


def _local(tensor: Tensor) -> Tensor:
    held: Tensor = getattr(tensor, "_local_tensor", tensor)
    return held


def _sixteens(number: float) -> int:
    return max(16, round(number / 16) * 16)
