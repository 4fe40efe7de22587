"""Two ranks over gloo: one incarnation for both, and a restart of both."""

from __future__ import annotations

import pathlib
import time

import ranks
from node import Node
from processes import run_all


def run(
    tmp_path: pathlib.Path, name: str, steps: int, seed: int, mode: str
) -> list[tuple[int | None, str]]:
    """(exit code, output) of both ranks."""
    store = str(tmp_path / name)
    return run_all([(ranks.main, (r, 2, store, steps, seed, mode)) for r in range(2)])


def lines(outputs: list[tuple[int | None, str]], word: str) -> list[str]:
    return [
        next((line for line in out.splitlines() if line.startswith(word)), out)
        for _, out in outputs
    ]


def test_a_restart_of_two_killed_ranks_goes_on_bit_for_bit(
    node: Node, tmp_path: pathlib.Path
) -> None:
    died = run(tmp_path, "first", 5, 1, "die")
    assert [code for code, _ in died] == [-9, -9], died
    again = run(tmp_path, "second", 5, 50, "end")
    assert [code for code, _ in again] == [0, 0], again
    assert lines(again, "restored") == ["restored 5"] * 2
    assert lines(again, "digest") == lines(died, "digest")
    job = node.job()
    assert job is not None and job["incarnation"] == 2 and job["world_size"] == 2


def test_a_misfit_on_one_rank_is_an_error_on_all(node: Node, tmp_path: pathlib.Path) -> None:
    first = run(tmp_path, "first", 2, 1, "end")
    assert [code for code, _ in first] == [0, 0], first
    second = run(tmp_path, "second", 3, 1, "misfit")
    assert [code for code, _ in second] == [1, 1], second
    for _, output in second:
        assert "StateMismatchError" in output and "[9, 8]" in output, output
    assert "StateMismatchError: rank 1: " in second[0][1], second
    third = run(tmp_path, "third", 2, 1, "end")
    assert lines(third, "restored") == ["restored 2"] * 2, "the snapshot is not spoilt"


def test_an_exception_of_another_library_on_one_rank_is_an_error_on_all(
    node: Node, tmp_path: pathlib.Path
) -> None:
    first = run(tmp_path, "first", 2, 1, "end")
    assert [code for code, _ in first] == [0, 0], first
    began = time.monotonic()
    second = run(tmp_path, "second", 3, 1, "broken")
    assert [code for code, _ in second] == [1, 1], second
    for _, output in second:
        assert "MemoryError" in output, output
    assert time.monotonic() - began < 40.0


def test_a_daemon_that_dies_between_telling_two_ranks_holds_no_restore_up(
    node: Node, tmp_path: pathlib.Path
) -> None:
    """I11, L: one rank loads attempt 1 while the other never hears of it."""
    died = run(tmp_path, "first", 5, 1, "die")
    assert [code for code, _ in died] == [-9, -9], died
    node.stop()
    node.start(failpoints="restore.before_choice=kill@2")
    node.supervise()
    again = run(tmp_path, "second", 5, 50, "end")
    node.unsupervise()
    assert node.restarts == 1
    assert [code for code, _ in again] == [0, 0], again
    assert lines(again, "restored") == ["restored 5"] * 2
    assert lines(again, "digest") == lines(died, "digest")


def test_a_rank_that_never_asks_is_named_to_the_others(
    node: Node, tmp_path: pathlib.Path
) -> None:
    node.stop()
    node.start(config='[restore]\nwait = "1s"\n')
    (_, output), (code, _) = run(tmp_path, "first", 2, 1, "silent")
    assert code == 0
    assert "UnavailableError: rank 1 did not ask for a restore" in output, output


def test_a_rank_that_dies_after_its_load_leaves_no_other_training(
    node: Node, tmp_path: pathlib.Path
) -> None:
    """I11: nobody trains on before all have loaded."""
    died = run(tmp_path, "first", 5, 1, "die")
    node.stop()
    node.start(config='[restore]\nwait = "1s"\n')
    (_, output), (code, _) = run(tmp_path, "second", 6, 50, "arm:client.before_loaded=kill")
    assert code == -9
    assert "restored" not in output and "rank 1 went away" in output, output
    again = run(tmp_path, "third", 5, 60, "end")
    assert lines(again, "restored") == ["restored 5"] * 2
    assert lines(again, "digest") == lines(died, "digest")
