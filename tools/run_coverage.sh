#!/bin/bash
# Line coverage of the product's folders by the C++ tests (also of the daemons that they start).
# Prints one line a folder and the total; fails below COVERAGE_MIN percent (85) in all together.
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
minimum=${COVERAGE_MIN:-85}
profiles=/tmp/holdfast-cov
rm -rf "$profiles"
mkdir -p "$profiles"

$bazel test --config=cov --keep_going --build_tests_only --test_lang_filters=cc //tests/... || true
bin=$($bazel info --config=cov bazel-bin 2> /dev/null)
llvm-profdata-14 merge --sparse -o "$profiles/all.profdata" "$profiles"/*.profraw

mapfile -t programs < <(find -L "$bin/tests" "$bin/daemon" "$bin/client" -maxdepth 4 -type f -executable \
  \( -name '*_test' -o -name '*_fuzz' -o -name holdfastd -o -name '*.so' \) | sort)
objects=()
for program in "${programs[@]:1}"; do objects+=(-object "$program"); done
llvm-cov-14 export --summary-only --instr-profile="$profiles/all.profdata" \
  "${programs[0]}" "${objects[@]}" 2> /dev/null | tools/coverage_table.py "$minimum"
