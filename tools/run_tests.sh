#!/bin/bash
# Runs every stage even after a failure, and closes with one line: "N passed, N failed[, N skipped]".
# Each lint check is one case; tests count by their own cases. STAGES picks others (lint tests asan tsan python).
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
stages=${STAGES:-lint tests python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
skipped=0

# Adds the counts of a stage: name, passed, failed, skipped.
add() {
  passed=$((passed + $2))
  failed=$((failed + $3))
  skipped=$((skipped + $4))
  echo "== $1: $2 passed, $3 failed, $4 skipped (${SECONDS}s)"
}

run_lint() {
  local code=0 good bad
  # LINT_TIDY=all adds clang-tidy, which `make lint` runs always: from a cold cache it takes longer
  # than all tests together.
  tools/lint.sh --tidy="${LINT_TIDY:-off}" 2>&1 | tee "$work/lint" || code=$?
  good=$(grep -c '^lint: .* passed$' "$work/lint" || true)
  bad=$(grep -c '^lint: .* failed$' "$work/lint" || true)
  # A lint that broke down before its verdict is a failure too.
  if ((code != 0 && bad == 0)); then bad=1; fi
  add lint "$good" "$bad" 0
}

run_bazel() {
  local name=$1 code=0
  local -a counts
  shift
  $bazel test --keep_going --build_event_json_file="$work/$name.json" "$@" || code=$?
  read -r -a counts < <(tools/test_report.py bazel "$work/$name.json" "$code")
  add "$name" "${counts[@]}"
}

run_python() {
  local code=0 python
  local -a counts
  [[ -d tests/python ]] || return 0
  python=$(tools/venv_path.sh)/bin/python
  "$python" -m pytest -q --junit-xml="$work/python.xml" tests/python || code=$?
  read -r -a counts < <(tools/test_report.py junit "$work/python.xml" "$code")
  add python "${counts[@]}"
}

for stage in $stages; do
  echo "== $stage"
  case $stage in
    lint) run_lint ;;
    tests) run_bazel tests //... ;;
    asan) run_bazel asan --config=asan --build_tests_only --test_lang_filters=cc //... ;;
    tsan) run_bazel tsan --config=tsan //... ;;
    python) run_python ;;
    *) echo "unknown stage $stage" >&2; failed=$((failed + 1)) ;;
  esac
done

if ((passed + failed + skipped == 0)); then failed=1; fi
line="$passed passed, $failed failed"
if ((skipped)); then line+=", $skipped skipped"; fi
echo "$line"
((failed == 0))
