"""A minute of random faults (chaos.py); `make chaos FAULTS=1000` plays more."""

from __future__ import annotations

import pathlib

import pytest

import chaos

TRAINED = [[(1, "a"), (2, "b"), (3, "c")], [(1, "d"), (2, "e"), (2, "e")]]


@pytest.mark.parametrize("seed", [1, 2])
def test_every_promise_is_kept(built: dict[str, str], tmp_path: pathlib.Path, seed: int) -> None:
    """I3, I10, I11 under daemons and ranks that die or hang, and nodes that are lost for good."""
    assert chaos.play(tmp_path, built, seed, faults=1000, seconds=30.0) > 1


def test_what_was_trained_passes() -> None:
    assert chaos.judge([(2, "b"), (2, "e")], TRAINED, 2) == 2


@pytest.mark.parametrize(
    ("restored", "least", "words"),
    [
        ([(2, "b"), (2, "e")], 3, "step 3 had been promised, 2 came back"),
        ([(2, "b"), (1, "d")], 1, r"the steps \[1, 2\]"),
        ([(2, "b"), (2, "x")], 1, "rank 1: step 2 came back as x"),
        ([(3, "c"), (3, "c")], 1, "rank 1: step 3 came back as c, it was \\[\\]"),
    ],
)
def test_a_broken_promise_is_found(
    restored: list[tuple[int, str]], least: int, words: str
) -> None:
    with pytest.raises(chaos.Broken, match=words):
        chaos.judge(restored, TRAINED, least)


def test_a_step_that_was_trained_to_two_states_is_found() -> None:
    with pytest.raises(chaos.Broken, match="it was"):
        chaos.judge([(1, "a")], [[(1, "a"), (1, "z")]], 0)
