"""What the README tells users to type works as it stands there."""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess

import pytest
import safetensors.torch
import torch

import holdfast
from node import Node
from support import Cursor, digest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 3


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Run:
    """A small training around the five lines: what they take for granted, and nothing else."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.model = torch.nn.Linear(4, 3)
        self.opt = torch.optim.AdamW(self.model.parameters())
        self.loader = Cursor()
        self.trained = 0
        self.names: dict[str, object] = {}

    def train_one_step(self) -> None:
        self.trained += 1
        self.loader.position += 1
        self.opt.zero_grad()
        self.model(torch.randn(5, 4) + self.loader.position).square().mean().backward()
        self.opt.step()
        # A real step takes longer than it takes to prepare the next slot.
        checkpointer = self.names["ckpt"]
        assert isinstance(checkpointer, holdfast.Checkpointer)
        checkpointer.prepare()

    def five_lines(self, persist: pathlib.Path, n: int) -> None:
        (lines,) = blocks("python")
        assert 'persist="/checkpoints"' in lines
        self.names = {
            "holdfast": holdfast,
            "model": self.model,
            "opt": self.opt,
            "loader": self.loader,
            "n": n,
            "train_one_step": self.train_one_step,
        }
        exec(lines.replace("/checkpoints", str(persist)), self.names)  # the README's own text

    def digest(self) -> str:
        return digest({"model": dict(self.model.state_dict()), "opt": self.opt.state_dict()})


@pytest.fixture
def persist(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def test_the_five_lines_train_and_go_on(node: Node, persist: pathlib.Path) -> None:
    straight = Run()
    straight.five_lines(persist, STEPS)
    assert straight.trained == STEPS
    again = Run()
    again.five_lines(persist, STEPS)
    assert again.trained == 0, "it was at its end already"
    assert again.digest() == straight.digest()
    again.five_lines(persist, STEPS + 2)
    assert again.trained == 2


def test_the_commands_show_check_and_export(
    node: Node, persist: pathlib.Path, tmp_path: pathlib.Path, built: dict[str, str]
) -> None:
    run = Run()
    run.five_lines(persist, STEPS)
    (commands,) = (block for block in blocks("sh") if "holdfast status" in block)
    outputs: dict[str, str] = {}
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)
        words = [{"1200": str(STEPS), "DIR": str(tmp_path / "out")}.get(w, w) for w in words]
        assert words[0] == "holdfast"
        done = subprocess.run(
            [f"{built['HOLDFAST_BIN']}/holdfast", *words[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        outputs[words[1]] = done.stdout
    assert list(outputs) == ["status", "ls", "verify", "export"]
    assert "my-job" in outputs["status"] and "DURABLE ON" in outputs["ls"]
    (file,) = (tmp_path / "out").rglob("*.safetensors")
    held = safetensors.torch.load_file(file)
    assert any(tensor.equal(run.model.weight) for tensor in held.values())


def test_make_knows_every_command_that_the_readme_names() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    known = {line.split()[0] for line in listed.stdout.splitlines()}
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(blocks("sh"))))
    named |= set(re.findall(r"`make ([a-z]+)`", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named <= known
