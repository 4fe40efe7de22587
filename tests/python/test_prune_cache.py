"""The build cache is cut to its size from its oldest end, and left alone below it."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import prune_cache  # noqa: E402

MIB = 1 << 20
A_MIB = MIB / prune_cache.GIB


def fill(folder: pathlib.Path) -> list[pathlib.Path]:
    """Ten files of a MiB in two folders; later ones were used later."""
    paths = [folder / ("cas" if i % 2 else "ac") / str(i) for i in range(10)]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(MIB))
        os.utime(path, (1_000_000 + i, 1_000_000))
    return paths


def test_what_was_used_longest_ago_goes(tmp_path: pathlib.Path) -> None:
    paths = fill(tmp_path)
    removed, freed = prune_cache.prune(tmp_path, 6 * A_MIB)
    assert removed == 6 and freed >= 6 * A_MIB
    assert [path.exists() for path in paths] == [False] * 6 + [True] * 4


def test_nothing_goes_while_it_is_smaller(tmp_path: pathlib.Path) -> None:
    paths = fill(tmp_path)
    assert prune_cache.prune(tmp_path, 11 * A_MIB) == (0, 0)
    assert all(path.exists() for path in paths)


def test_a_folder_that_is_not_there_is_empty(tmp_path: pathlib.Path) -> None:
    assert prune_cache.prune(tmp_path / "none", 1) == (0, 0)
