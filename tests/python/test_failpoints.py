"""No failpoint without a kill: the names in the sources, in the list of kills, and in the documents."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
KILL_POINTS = ROOT / "tests/daemon/kill_points.h"
PAGE = ROOT / "daemon/README.md"
NAME = r'"([a-z_]+(?:\.[a-z_]+)+)"'
PASSED = re.compile(r"(?:HOLDFAST_FAILPOINT|FailpointStatus)\(\s*" + NAME)
HANDED_ON = re.compile(r"failpoint\w*\s*=\s*" + NAME)
# How every passage of the sources is written; one that is not hides its name from this test.
ANY = re.compile(r"(?:HOLDFAST_FAILPOINT|FailpointStatus)\(([^)]*)")


def sources() -> list[pathlib.Path]:
    folders = ["cli", "client", "common", "daemon", "layout", "storage_tiers", "transport"]
    files = [p for f in folders for p in sorted((ROOT / f).rglob("*")) if p.suffix in (".cc", ".h")]
    return [p for p in files if p.stem != "failpoint"]


def names_in_sources() -> set[str]:
    names: set[str] = set()
    for path in sources():
        text = path.read_text()
        names.update(PASSED.findall(text), HANDED_ON.findall(text))
    return names


def test_every_failpoint_of_the_sources_is_killed_at() -> None:
    killed = set(re.findall(NAME, KILL_POINTS.read_text()))
    assert len(killed) > 20
    assert killed == names_in_sources()


def test_every_failpoint_is_documented() -> None:
    section = PAGE.read_text().split("## Failpoints", 1)[1]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([a-z_.]+)`", row)}
    assert documented == names_in_sources()


def test_no_passage_hides_its_name() -> None:
    hidden = [
        f"{path.relative_to(ROOT)}: {argument}"
        for path in sources()
        for argument in ANY.findall(path.read_text())
        if not argument.strip().startswith('"') and "failpoint_after_sent" not in argument
    ]
    assert hidden == []
