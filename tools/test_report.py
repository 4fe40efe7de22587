#!/usr/bin/env python3
"""Counts test cases from Bazel's build events or a pytest JUnit file.

Prints "<passed> <failed> <skipped>" and, given a folder, appends "<case>: <why>" of each skipped case to
its file "skipped", and each failed case to its file "failed". A Bazel target without a readable result, or that failed to build, counts as one failed; a command
that failed without any failed case adds one, so that no failure is hidden.
"""

import json
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree
from typing import Any

Counts = tuple[int, int, int]
NO_TESTS_FOUND = 4  # Bazel's exit code
skipped_cases: list[str] = []
failed_cases: list[str] = []


def add(one: Counts, other: Counts) -> Counts:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def count_xml(text: str) -> Counts:
    """Cases of one JUnit file, as GoogleTest, pytest and Bazel itself write it."""
    passed = failed = skipped = 0
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            failed_cases.append(name)
        elif case.find("skipped") is not None or case.get("result") == "skipped":
            skipped += 1
            mark = case.find("skipped")
            why = " ".join((mark.get("message", "") if mark is not None else "").split())
            skipped_cases.append(f"{name}: {why or 'no reason'}")
        elif case.get("status") != "notrun":  # GoogleTest lists what a filter or DISABLED_ left out
            passed += 1
    return passed, failed, skipped


def count_target(label: str, result: dict[str, Any]) -> Counts:
    """One run of one Bazel test: its XML's cases, made to agree with Bazel's verdict."""
    counts: Counts = (0, 0, 0)
    for output in result.get("testActionOutput", []):
        if output["name"] == "test.xml":
            path = urllib.parse.unquote(urllib.parse.urlparse(output.get("uri", "")).path)
            try:
                counts = count_xml(pathlib.Path(path).read_text(errors="replace"))
            except (OSError, ElementTree.ParseError):
                pass
    if result["status"] not in ("PASSED", "FLAKY"):
        if counts[1]:
            return counts
        failed_cases.append(f"{label}: {result['status']}")
        return add(counts, (0, 1, 0))
    return counts if sum(counts) else (1, 0, 0)


def count_bazel(events: str, code: int) -> Counts:
    """All tests of one `bazel test` from its --build_event_json_file."""
    runs: dict[tuple[Any, ...], Counts] = {}
    tests: set[str] = set()
    total: Counts = (0, 0, 0)
    for line in events.splitlines():
        event = json.loads(line)
        identity = event.get("id", {})
        if "testResult" in event:
            of = identity["testResult"]
            # A later attempt replaces an earlier one; shards and runs add up.
            runs[of["label"], of.get("run"), of.get("shard")] = count_target(of["label"], event["testResult"])
        elif event.get("aborted", {}).get("reason") == "SKIPPED":
            # Not for this machine, say without CUDA.  Only a test counts.
            label = identity.get("targetCompleted", {}).get("label")
            if label in tests:
                total = add(total, (0, 0, 1))
                skipped_cases.append(f"{label}: not for this machine")
        elif "targetConfigured" in identity:
            if event.get("configured", {}).get("targetKind", "").endswith("_test rule"):
                tests.add(identity["targetConfigured"]["label"])
        elif "targetCompleted" in identity and not event.get("completed", {}).get("success"):
            total = add(total, (0, 1, 0))
            failed_cases.append(f"{identity['targetCompleted']['label']}: failed to build")
    for counts in runs.values():
        total = add(total, counts)
    if code not in (0, NO_TESTS_FOUND) and not total[1]:
        total = add(total, (0, 1, 0))
    return total


def main(kind: str, path: str, code: str, folder: str | None = None) -> int:
    file = pathlib.Path(path)
    text = file.read_text() if file.exists() else ""
    if kind == "bazel":
        counts = count_bazel(text, int(code))
    else:
        counts = count_xml(text) if text else (0, 0, 0)
        if int(code) and not counts[1]:
            counts = add(counts, (0, 1, 0))
    if counts[1] and not failed_cases:
        failed_cases.append(f"{path}: the command ended with {code}")
    if folder:
        for name, cases in (("skipped", skipped_cases), ("failed", failed_cases)):
            with open(pathlib.Path(folder, name), "a") as file_of_cases:
                file_of_cases.writelines(line + "\n" for line in cases)
    print(*counts)
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit("usage: test_report.py bazel|junit FILE EXIT_CODE [FOLDER]")
    sys.exit(main(*sys.argv[1:]))
