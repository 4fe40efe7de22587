#!/bin/bash
# Line coverage of the product's folders by the C++ tests (also of the daemons that they start).
# Prints one line a folder and the total; fails below COVERAGE_MIN percent (85) in all together, or when
# a test fails. The total is remembered on this machine: --recorded prints it and measures nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
minimum=${COVERAGE_MIN:-85}
record=${XDG_CACHE_HOME:-$HOME/.cache}/holdfast/coverage

if [[ ${1:-} == --recorded ]]; then
  if [[ -r $record ]]; then
    echo "line coverage, from the last \`make coverage\` on this machine: $(< "$record")"
  else
    echo "line coverage: not measured on this machine yet (make coverage)"
  fi
  exit 0
fi

# A folder of this run alone: clones measure at the same time.
profiles=$(mktemp -d /tmp/holdfast-cov.XXXXXX)
trap 'rm -rf "$profiles"' EXIT
status=0
$bazel test --config=cov --test_env=LLVM_PROFILE_FILE="$profiles/%m-%p.profraw" \
  --sandbox_writable_path="$profiles" --keep_going --build_tests_only --test_lang_filters=cc \
  "${@:-//tests/...}" || status=$?
if ((status == 0)); then echo "coverage: tests passed"; else echo "coverage: tests failed"; fi

bin=$($bazel info --config=cov bazel-bin 2> /dev/null)
llvm-profdata-14 merge --sparse -o "$profiles/all.profdata" "$profiles"/*.profraw
mapfile -t programs < <(find -L "$bin/tests" "$bin/daemon" "$bin/client" -maxdepth 4 -type f -executable \
  \( -name '*_test' -o -name '*_fuzz' -o -name holdfastd -o -name '*.so' \) | sort)
objects=()
for program in "${programs[@]:1}"; do objects+=(-object "$program"); done
llvm-cov-14 export --summary-only --instr-profile="$profiles/all.profdata" \
  "${programs[0]}" "${objects[@]}" 2> /dev/null |
  tools/coverage_table.py "$minimum" | tee "$profiles/table" || status=1
total=$(sed -n 's/^together *//p' "$profiles/table")
if (($# == 0)); then
  mkdir -p "$(dirname "$record")"
  echo "$total at $(git rev-parse --short HEAD 2> /dev/null || echo '?'), $(date -u +%F)" > "$record"
fi
exit $status
