"""Small trainings, comparing them bit for bit, and programs of their own."""

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import socket
import subprocess
import sys
from typing import Any

import numpy
import torch

import holdfast
from holdfast._state import rng_state
from holdfast._encoding import Encoder

HERE = pathlib.Path(__file__).resolve().parent


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def raw(tensor: torch.Tensor) -> bytes:
    """The tensor's elements in row-major order, of any type and device."""
    plain = tensor.detach().cpu().contiguous()
    if plain.numel() == 0:
        return b""
    return bytes(plain.reshape(-1).view(torch.uint8).numpy().tobytes())


def in_order(value: Any) -> Any:
    """The order of a dict's keys means nothing here."""
    if isinstance(value, dict):
        return {k: in_order(value[k]) for k in sorted(value, key=repr)}
    if type(value) in (list, tuple):
        return type(value)(map(in_order, value))
    return value


def digest(value: Any) -> str:
    """SHA-256 over a nested state: values, types and the bytes of every tensor."""
    encoder = Encoder()
    text = repr(encoder.encode(in_order(value), ""))
    total = hashlib.sha256(text.encode("utf-8", "backslashreplace"))
    for name, tensor in encoder.tensors.items():
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        total.update(raw(tensor))
    return total.hexdigest()


def seed_all(seed: int) -> None:
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


class Cursor:
    """A data loader's position."""

    def __init__(self) -> None:
        self.position = 0
        self.shuffle = torch.randperm(16)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "shuffle": self.shuffle, "pair": (1, 2.5)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position, self.shuffle = state["position"], state["shuffle"]
        assert state["pair"] == (1, 2.5)


class Training:
    """A model with dropout and batch norm, AdamW, a scheduler and a data position."""

    def __init__(self, seed: int = 0, **adam: Any) -> None:
        seed_all(seed)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(8, 16),
            torch.nn.BatchNorm1d(16),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(16, 4),
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, **adam)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [3, 3, 6], 0.5)
        self.cursor = Cursor()

    @property
    def extra(self) -> dict[str, Any]:
        return {"scheduler": self.scheduler, "cursor": self.cursor}

    def step(self) -> None:
        noise = random.random() + float(numpy.random.rand())
        batch = torch.randn(5, 8) + noise + self.cursor.position
        self.cursor.position += 1
        self.optimizer.zero_grad()
        self.model(batch).square().mean().backward()
        self.optimizer.step()
        self.scheduler.step()

    def digest(self) -> str:
        return digest(
            {
                "model": dict(self.model.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "cursor": self.cursor.state_dict(),
                "rng": rng_state(),
            }
        )


def make(training: Any, **options: Any) -> holdfast.Checkpointer:
    extra = getattr(training, "extra", None)
    return holdfast.Checkpointer(
        "job", model=training.model, optimizer=training.optimizer, extra=extra, **options
    )


def take(checkpointer: holdfast.Checkpointer, step: int) -> None:
    """A snapshot that is not skipped, sealed when this returns."""
    checkpointer.prepare()
    result = checkpointer.snapshot(step)
    assert result, result.reason
    checkpointer.wait(step)


def run(*arguments: str, timeout: float = 120.0) -> str:
    """Output of a Python program that can import the package and these tests' helpers."""
    path = os.pathsep.join([str(HERE.parents[1] / "client/python"), str(HERE)])
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
