#!/bin/bash
# Runs every stage even after a failure; the last line is exactly "N passed, N failed". The lines before
# it say what was skipped and why, then what failed. A lint check, the search of one fuzz target and the share of covered
# lines are one case each; tests count by their own cases.
# STAGES picks others (lint asan fuzz tsan plain python).
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
stages=${STAGES:-lint asan fuzz tsan plain python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
skipped=0
touch "$work/skipped" "$work/failed"

# Adds the counts of a stage: name, passed, failed, skipped.
add() {
  passed=$((passed + $2))
  failed=$((failed + $3))
  skipped=$((skipped + $4))
  echo "== $1: $2 passed, $3 failed, $4 skipped (${SECONDS}s)"
}

# Runs a script that ends each of its checks with "<stage>: <check> passed|failed|skipped[: why]".
run_checks() {
  local stage=$1 code=0 good bad left
  shift
  "$@" 2>&1 | tee "$work/$stage" || code=$?
  good=$(grep -c "^$stage: .* passed$" "$work/$stage" || true)
  bad=$(grep "^$stage: .* failed$" "$work/$stage" | tee -a "$work/failed" | wc -l || true)
  left=$(grep -E "^$stage: .* skipped(: .*)?$" "$work/$stage" | tee -a "$work/skipped" | wc -l || true)
  # One that broke down before its verdict is a failure too.
  if ((code != 0 && bad == 0)); then
    bad=1
    echo "$stage: ended with $code" >> "$work/failed"
  fi
  add "$stage" "$good" "$bad" "$left"
}

run_bazel() {
  local name=$1 code=0
  local -a counts
  shift
  $bazel test --keep_going --build_event_json_file="$work/$name.json" "$@" || code=$?
  read -r -a counts < <(tools/test_report.py bazel "$work/$name.json" "$code" "$work")
  add "$name" "${counts[@]}"
}

# All tests but those tagged "once" under AddressSanitizer and UBSan, and the lines that they cover.
run_asan() {
  local profiles=$work/profiles
  local before=$passed
  mkdir "$profiles"
  run_bazel asan --config=asan --test_env=LLVM_PROFILE_FILE="$profiles/%m-%p.profraw" \
    --sandbox_writable_path="$profiles" --nocache_test_results --build_tests_only --test_tag_filters=-once //...
  if compgen -G "$profiles/*.profraw" > /dev/null; then
    run_checks coverage tools/run_coverage.sh --report "$profiles"
    rm -rf "$profiles"
  elif ((passed > before)); then
    echo "coverage: the tests that passed left no profile to measure" >> "$work/failed"
    add coverage 0 1 0
  fi
}

run_python() {
  local code=0 python
  local -a counts
  [[ -d tests/python ]] || return 0
  python=$(tools/venv_path.sh)/bin/python
  "$python" -m pytest -q -n "${TEST_WORKERS:-4}" --dist load --maxschedchunk=1 --junit-xml="$work/python.xml" tests/python || code=$?
  read -r -a counts < <(tools/test_report.py junit "$work/python.xml" "$code" "$work")
  add python "${counts[@]}"
}

for stage in $stages; do
  echo "== $stage"
  case $stage in
    # From a cold cache clang-tidy on all files takes longer than all tests together: what changed
    # last comes first, and the rest as far as the time goes.
    lint) run_checks lint tools/lint.sh --budget="${LINT_SECONDS:-60}" ;;
    asan) run_asan ;;
    fuzz) FUZZ_CONFIG=asan FUZZ_SECONDS=${FUZZ_SECONDS:-5} run_checks fuzz tools/run_fuzz.sh ;;
    tsan) run_bazel tsan --config=tsan //... ;;
    # What a sanitizer makes useless or ten times as long: whole processes killed, thousands of seeds.
    # Benchmarks are built.
    plain) run_bazel plain --local_test_jobs=HOST_CPUS*3 --build_tag_filters=once,plain,bench --test_tag_filters=once,plain //... ;;
    python) run_python ;;
    *) echo "unknown stage $stage" >> "$work/failed"; failed=$((failed + 1)) ;;
  esac
done

if ((passed + failed + skipped == 0)); then
  failed=1
  echo "nothing ran" >> "$work/failed"
fi
echo "== all"
sed -n '/ lines /p' "$work/coverage" 2> /dev/null || true
# The same case skips in several stages.
sort "$work/skipped" | uniq | sed 's/^/skipped: /'
sed 's/^/failed: /' "$work/failed"
echo "$passed passed, $failed failed"
((failed == 0))
