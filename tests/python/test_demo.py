"""The demo's verdict: a single differing digest is found and told."""

from __future__ import annotations

import json
import os
import pathlib
import struct
import subprocess
import sys
from typing import Any

import pytest

import flip
import run
from node import DemoError, NoAnswer, ShardKey, wait_for
from scenes import Row, SealWitness
from training import WORLD, Training


@pytest.fixture
def training(tmp_path: pathlib.Path) -> Any:
    """A run that has ended, with its digests in place."""
    ended = Training.__new__(Training)
    ended.out = tmp_path
    for rank in range(WORLD):
        (tmp_path / f"rank-{rank}.json").write_text(json.dumps({"model.w": "a", "rng": "b"}))
    return ended


def test_equal_digests_compare_equal(training: Any) -> None:
    assert run.compare(training.digests(), training) == []


@pytest.mark.parametrize("change", [{"model.w": "x"}, {"more": "1"}])
def test_a_differing_or_additional_digest_is_named(training: Any, change: dict[str, str]) -> None:
    expected = training.digests()
    document = {"model.w": "a", "rng": "b", **change}
    (training.out / "rank-1.json").write_text(json.dumps(document))
    assert run.compare(expected, training) == [f"rank 1 {next(iter(change))}"]


def test_a_missing_digest_is_named(training: Any) -> None:
    expected = {**training.digests(), "rank 0 optimizer": "c"}
    assert run.compare(expected, training) == ["rank 0 optimizer"]


def test_a_part_whose_bits_differ_makes_the_demo_fail(
    training: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Played:
        def play(self, name: str, part: Any) -> list[Row]:
            if name == "reference":
                return list(part(None))
            return [Row("1", "x", "y", "z", "1", training)]

    class Other:
        def digests(self) -> dict[str, str]:
            return {"rank 0 model.w": "other"}

    monkeypatch.setattr(run, "reference", lambda scene: training)
    assert run.play_all(Played(), ["1"]) == 0  # type: ignore[arg-type]
    monkeypatch.setattr(run, "reference", lambda scene: Other())
    assert run.play_all(Played(), ["1"]) == 1  # type: ignore[arg-type]
    assert "differs: rank 0 model.w" in capsys.readouterr().out


def test_waiting_ends_with_what_was_awaited() -> None:
    def never() -> None:
        raise NoAnswer("away")

    with pytest.raises(DemoError, match="the moon did not happen"):
        wait_for("the moon", never, 0.05)


def test_exactly_one_bit_is_flipped_in_the_slot_of_the_step(tmp_path: pathlib.Path) -> None:
    (tmp_path / "slots").mkdir()
    for slot, step in enumerate((4, 5)):
        header = {
            flip._STEP_TENSOR: {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
            flip._VICTIM: {"dtype": "U8", "shape": [8], "data_offsets": [4, 12]},
        }
        text = json.dumps(header).encode()
        data = struct.pack("<Q", len(text)) + text + struct.pack("<f", step) + bytes(8)
        (tmp_path / "slots" / f"{slot}.1").write_bytes(data)
    before = {p.name: p.read_bytes() for p in (tmp_path / "slots").iterdir()}
    flip.flip_in_arena(tmp_path, 5)
    after = {p.name: p.read_bytes() for p in (tmp_path / "slots").iterdir()}
    assert after["0.1"] == before["0.1"]
    pairs = zip(before["1.1"], after["1.1"])
    assert [bin(a ^ b).count("1") for a, b in pairs if a != b] == [1]
    with pytest.raises(DemoError, match="no slot"):
        flip.flip_in_arena(tmp_path, 6)


def test_part_one_of_the_demo_comes_back_bit_for_bit(built: dict[str, str]) -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    played = subprocess.run(
        [sys.executable, str(root / "tools/demo/run.py"), "--part", "1"],
        env={**os.environ, **built},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "everything came back bit for bit" in played.stdout


def test_a_daemon_that_is_killed_while_it_starts_is_started_again(node: Node) -> None:
    started = node.start
    starts: list[int] = []

    def killed_once() -> None:
        starts.append(len(starts))
        if starts == [0]:
            raise DemoError("holdfastd ended with -9")
        started()

    node.start = killed_once  # type: ignore[method-assign, assignment]
    node.supervise()
    node.kill()
    wait_for("the daemon", lambda: node.restarts or None)
    node.unsupervise()
    assert starts == [0, 1]


def test_a_shard_that_the_next_daemon_does_not_find_makes_the_demo_fail() -> None:
    witness = SealWitness.__new__(SealWitness)
    witness.told = {0: 20, 1: 19}
    witness.at_rest = {ShardKey(1, 20, 0), ShardKey(1, 19, 1)}
    witness.found = set(witness.at_rest)
    witness.judge()
    witness.found = {ShardKey(1, 20, 0)}
    with pytest.raises(DemoError, match="lost by the kill in a seal"):
        witness.judge()
    witness.at_rest = witness.found = {ShardKey(1, 20, 0)}
    with pytest.raises(DemoError, match="rank 1 was told that step 19 is sealed"):
        witness.judge()
