"""What `make test` counts and prints: no failure and nothing skipped may hide."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

JUNIT = """<testsuites><testsuite>
<testcase classname="A" name="Good" status="run"/>
<testcase classname="A" name="Bad"><failure message="no"/></testcase>
<testcase classname="A" name="Left" result="skipped"><skipped message="no io_uring&#x0A;here"/></testcase>
</testsuite></testsuites>"""


def run_tests(tmp_path: pathlib.Path, stages: str, bazel: str = "exit 0") -> tuple[int, list[str]]:
    """tools/run_tests.sh with a stand-in for Bazel; its exit code and lines."""
    fake = tmp_path / "bazel"
    fake.write_text("#!/bin/bash\n" + bazel + "\n")
    fake.chmod(0o755)
    done = subprocess.run(
        [ROOT / "tools/run_tests.sh"],
        env={**os.environ, "BAZEL": str(fake), "STAGES": stages, "XDG_CACHE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stdout.splitlines()


def test_skipped_and_failed_cases_are_counted_and_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.xml").write_text(JUNIT)
    command = [ROOT / "tools/test_report.py", "junit", tmp_path / "x.xml", "1", tmp_path]
    counts = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert counts.split() == ["1", "1", "1"]
    assert (tmp_path / "skipped").read_text() == "A.Left: no io_uring here\n"
    assert (tmp_path / "failed").read_text() == "A.Bad\n"


def test_a_command_that_fails_without_a_failed_case_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "events.json").write_text("")
    command = [ROOT / "tools/test_report.py", "bazel", tmp_path / "events.json", "1", tmp_path]
    counts = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert counts.split() == ["0", "1", "0"]
    assert "ended with 1" in (tmp_path / "failed").read_text()


def test_a_target_that_is_not_for_this_machine_is_named(tmp_path: pathlib.Path) -> None:
    label = "//tests/client/copy_cuda:engine_test"
    events = [
        {
            "id": {"targetConfigured": {"label": label}},
            "configured": {"targetKind": "cc_test rule"},
        },
        {"id": {"targetCompleted": {"label": label}}, "aborted": {"reason": "SKIPPED"}},
        {"id": {"targetCompleted": {"label": "//a:library"}}, "aborted": {"reason": "SKIPPED"}},
    ]
    (tmp_path / "events.json").write_text("\n".join(json.dumps(event) for event in events))
    command = [ROOT / "tools/test_report.py", "bazel", tmp_path / "events.json", "0", tmp_path]
    counts = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert counts.split() == ["0", "0", "1"]
    assert (tmp_path / "skipped").read_text() == f"{label}: not for this machine\n"


# One test passes and writes no profile.
PASSES = """
for word in "$@"; do
  [[ $word != --build_event_json_file=* ]] ||
    echo '{"id": {"testResult": {"label": "//a:b"}}, "testResult": {"status": "PASSED"}}' > "${word#*=}"
done
"""


def test_coverage_that_cannot_be_measured_is_a_failure(tmp_path: pathlib.Path) -> None:
    code, lines = run_tests(tmp_path, "asan", PASSES)
    assert code == 1
    assert lines[-2].startswith("failed: coverage: ")
    assert lines[-1] == "1 passed, 1 failed"


# Answers the query for targets with two and that for seeds with none, builds nothing, and puts the
# programs where run_fuzz.sh looks.
FUZZ = """
here=$(dirname "$0")
case $1 in
  query) [[ $* == *labels* ]] || printf '//x:good\\n//x:bad\\n' ;;
  build)
    mkdir -p "$here/x"
    printf '#!/bin/bash\\n' > "$here/x/good"
    printf '#!/bin/bash\\nexit 77\\n' > "$here/x/bad"
    chmod +x "$here/x/good" "$here/x/bad" ;;
  info) echo "$here" ;;
esac
"""


def test_each_fuzz_target_is_a_case_and_a_finding_fails(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUZZ_OUT", str(tmp_path / "out"))
    code, lines = run_tests(tmp_path, "fuzz", FUZZ)
    assert code == 1
    assert lines[-2:] == ["failed: fuzz: //x:bad failed", "1 passed, 1 failed"]


def test_a_stage_that_breaks_down_counts_as_failed(tmp_path: pathlib.Path) -> None:
    for stages in ("tests", "asan", "fuzz", "no-such-stage"):
        code, lines = run_tests(tmp_path, stages, "exit 1")
        assert (code, lines[-1]) == (1, "0 passed, 1 failed"), stages
        assert lines[-2].startswith("failed: "), stages


def test_clang_tidy_says_which_files_its_budget_did_not_reach(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tidy = [sys.executable, ROOT / "tools/run_tidy.py"]
    late = subprocess.run(
        [*tidy, "--budget=1e-9", "layout/dtype.cc"], stdout=subprocess.PIPE, text=True
    )
    assert late.returncode == 75
    assert "1 not reached" in late.stdout and "make lint" in late.stdout
