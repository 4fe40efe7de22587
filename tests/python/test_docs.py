"""Documents that programs print must say what the programs say."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_tables_of_operations_are_what_the_daemon_prints(built: dict[str, str]) -> None:
    daemon = os.path.join(built["HOLDFAST_BIN"], "holdfastd")
    check = subprocess.run(
        [sys.executable, str(ROOT / "tools/update_docs.py"), daemon, "--check"], timeout=60
    )
    assert check.returncode == 0, "docs/operations.md is out of date: run make docs"


def test_architecture_stays_within_its_length() -> None:
    lines = (ROOT / "docs/ARCHITECTURE.md").read_text().splitlines()
    assert len(lines) <= 250


def test_the_slot_table_of_architecture_is_that_of_the_code() -> None:
    code = (ROOT / "daemon/core/states.cc").read_text()
    rows = re.findall(r"SlotTransition\{P::k(\w+), E::k(\w+), P::k(\w+)\}", code)
    wanted = [tuple(re.sub(r"(?<!^)([A-Z])", r"_\1", word).lower() for word in row) for row in rows]
    page = (ROOT / "docs/ARCHITECTURE.md").read_text()
    table = page.split("### States of a slot")[1].split("*Limbo*")[0]
    written = re.findall(r"^\| (\w+) \| (\w+) \| (\w+) \|$", table, re.MULTILINE)[1:]
    assert len(wanted) > 20
    assert written == wanted


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "invariants.md", "README.md", "operations.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    folders = "common|proto|layout|transport|storage_tiers|daemon|client|cli|tests|tools|deploy|docs"
    named = set(re.findall(rf"\b(?:{folders})/[\w./-]*\w\.(?:cc|h|py|md|proto|toml|service)\b", text))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_tests_that_invariants_cites_exist() -> None:
    text = (ROOT / "docs/invariants.md").read_text()
    scripts = {path.stem for path in (ROOT / "tests/daemon/core/scripts").glob("*.txt")}
    cited = set(re.findall(r"`([a-z_]+)`", text)) - {"core_script_test", "core_script_crash_test", "code"}
    assert cited - scripts - {"expect"} == set()
    files = {path.name for path in (ROOT / "tests").rglob("*_test.cc")}
    assert {name for name in re.findall(r"([a-z_]+_test\.cc)", text)} - files == set()


def test_every_top_folder_says_what_belongs_there_and_what_does_not() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    tops = {line.split("/")[0] for line in listed.stdout.split() if "/" in line and line[0] != "."}
    for top in sorted(tops):
        text = (ROOT / top / "README.md").read_text().lower()
        assert re.search(r"not here|not belong|what does not", text), top


def test_the_page_of_the_python_package_names_every_file_and_those_that_know_ctypes() -> None:
    text = (ROOT / "client/python/README.md").read_text()
    files = sorted((ROOT / "client/python/holdfast").glob("*.py"))
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+\.py)`", row)}
    assert named == {path.name for path in files} - {"__init__.py"}
    (sentence,) = re.findall(r"^ctypes is known to these alone: (.*)$", text, re.MULTILINE)
    knowing = [p.name for p in files if re.search(r"^(import|from) ctypes", p.read_text(), re.MULTILINE)]
    assert re.findall(r"`(\w+\.py)`", sentence) == knowing
