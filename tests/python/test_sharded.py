"""State of which each rank holds a part (FSDP2)."""

from __future__ import annotations

import pathlib

import pytest
import sharded
from holdfast._sharded import box
from node import Node
from processes import run_all
from test_ranks import lines


def run(
    tmp_path: pathlib.Path, name: str, steps: int, seed: int, mode: str
) -> list[tuple[int | None, str]]:
    store = str(tmp_path / name)
    return run_all([(sharded.main, (r, 2, store, steps, seed, mode)) for r in range(2)])


def test_a_restart_of_two_killed_ranks_of_fsdp2_goes_on_bit_for_bit(
    node: Node, tmp_path: pathlib.Path
) -> None:
    died = run(tmp_path, "first", 3, 1, "die")
    assert [code for code, _ in died] == [-9, -9], died
    again = run(tmp_path, "second", 3, 50, "end")
    assert [code for code, _ in again] == [0, 0], again
    assert lines(again, "restored") == ["restored 3"] * 2
    assert lines(again, "digest") == lines(died, "digest")
    through = run(tmp_path, "third", 6, 70, "end")
    straight = run(tmp_path, "fourth", 6, 90, "end")
    assert lines(through, "restored") == ["restored 3"] * 2, through
    assert lines(straight, "restored") == ["restored 6"] * 2, straight
    assert lines(through, "digest") == lines(straight, "digest")


def test_state_cut_in_another_way_is_refused_with_both_parts(
    node: Node, tmp_path: pathlib.Path
) -> None:
    first = run(tmp_path, "first", 2, 1, "end")
    assert [code for code, _ in first] == [0, 0], first
    second = run(tmp_path, "second", 3, 1, "columns")
    assert [code for code, _ in second] == [1, 1], second
    for _, output in second:
        assert "StateMismatchError" in output, output
        assert "[3, 4] from [" in output and "[6, 2] from [" in output, output


# What is gathered belongs to no rank: saved as it stands, no start could load it.
def test_parameters_that_a_forward_left_gathered_are_saved_and_loaded_by_their_parts(
    node: Node, tmp_path: pathlib.Path
) -> None:
    store = str(tmp_path / "store")
    ended = run_all([(sharded.gathered, (r, 2, store)) for r in range(2)])
    assert [code for code, _ in ended] == [0, 0], ended


@pytest.mark.parametrize(
    ("shape", "dims", "mesh", "parts"),
    [
        ((5, 7), [0], [2], [((0, 0), (3, 7), 0), ((3, 0), (2, 7), 0)]),
        ((1, 7), [0], [2], [((0, 0), (1, 7), 0), ((1, 0), (0, 7), 0)]),
        ((7,), [0], [4], [((0,), (2,), 0), ((2,), (2,), 0), ((4,), (2,), 0), ((6,), (1,), 0)]),
        ((4, 4), [None, 1], [2, 2],
         [((0, 0), (4, 2), 0), ((0, 2), (4, 2), 0), ((0, 0), (4, 2), 1), ((0, 2), (4, 2), 1)]),
        ((4, 4), [0, 1], [2, 2],
         [((0, 0), (2, 2), 0), ((0, 2), (2, 2), 0), ((2, 0), (2, 2), 0), ((2, 2), (2, 2), 0)]),
        ((), [None], [2], [((), (), 0), ((), (), 1)]),
    ],
)  # fmt: skip
def test_each_rank_knows_its_box_of_the_whole(
    shape: tuple[int, ...], dims: list[int | None], mesh: list[int], parts: list[object]
) -> None:
    ranks = [[r] for r in range(mesh[0])]
    if len(mesh) == 2:
        ranks = [[r, c] for r in range(mesh[0]) for c in range(mesh[1])]
    assert [box(shape, dims, mesh, coordinate) for coordinate in ranks] == parts
