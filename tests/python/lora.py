"""A fine-tune with LoRA: a small transformer whose weights are frozen, and adapters that learn."""

from __future__ import annotations

import torch
from support import digest, raw, rng_state

WIDTH, LAYERS, RANK, WORDS = 256, 3, 4, 1024


class Adapted(torch.nn.Module):
    """A frozen linear layer and its low-rank adapter."""

    def __init__(self, base: torch.nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.lora_a = torch.nn.Parameter(torch.randn(RANK, base.in_features) * 0.02)
        self.lora_b = torch.nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv = Adapted(torch.nn.Linear(WIDTH, 3 * WIDTH))
        self.out = Adapted(torch.nn.Linear(WIDTH, WIDTH))
        self.up = Adapted(torch.nn.Linear(WIDTH, 4 * WIDTH))
        self.down = Adapted(torch.nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        heads = [t.unflatten(-1, (4, WIDTH // 4)).transpose(1, 2) for t in (q, k, v)]
        mixed = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(WORDS, WIDTH)
        self.blocks = torch.nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head = torch.nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.embedding.weight  # tied

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embedding(words)))


class Lora:
    """Everything that a LoRA fine-tune has; two of one seed are equal."""

    def __init__(self, seed: int = 0, base_seed: int = 0) -> None:
        torch.manual_seed(base_seed)
        self.model = Model()
        torch.manual_seed(seed)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        self.adapters = [p for n, p in self.model.named_parameters() if "lora_" in n]
        self.frozen = {n: p for n, p in self.model.named_parameters() if "lora_" not in n}
        self.optimizer = torch.optim.AdamW(self.adapters, lr=1e-2)

    def step(self) -> None:
        words = torch.randint(WORDS, (2, 17))
        logits = self.model(words[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def adapter_bytes(self) -> int:
        return sum(p.nbytes for p in self.adapters)

    def frozen_bytes(self) -> int:
        return sum(p.nbytes for p in self.frozen.values())

    def base(self) -> dict[str, bytes]:
        return {name: raw(p) for name, p in self.frozen.items()}

    def digest(self) -> str:
        return digest(
            {
                "model": dict(self.model.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "rng": rng_state(),
            }
        )
