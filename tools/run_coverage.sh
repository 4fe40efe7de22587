#!/bin/bash
# Line coverage of the product's folders by the C++ tests (also of the daemons that they start).
# Prints one line a folder and the total; fails below COVERAGE_MIN percent (85) in all together, or when
# a test fails. With --report DIR it runs nothing and reads the profiles that tests built with
# --config=asan left there (tools/run_tests.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
minimum=${COVERAGE_MIN:-85}
status=0

if [[ ${1:-} == --report ]]; then
  profiles=$2
else
  # A folder of this run alone: clones measure at the same time.
  profiles=$(mktemp -d /tmp/holdfast-cov.XXXXXX)
  trap 'rm -rf "$profiles"' EXIT
  $bazel test --config=asan --test_env=LLVM_PROFILE_FILE="$profiles/%m-%p.profraw" \
    --sandbox_writable_path="$profiles" --keep_going --build_tests_only --test_lang_filters=cc \
    "${@:-//tests/...}" || status=$?
  if ((status == 0)); then echo "coverage: tests passed"; else echo "coverage: tests failed"; fi
fi

bin=$($bazel info --config=asan bazel-bin 2> /dev/null)
# A process that a test killed may leave half a profile: it counts for nothing.
llvm-profdata-14 merge --sparse --failure-mode=all -o "$profiles/all.profdata" "$profiles"/*.profraw
programs=()
while read -r program; do
  if [[ $(head -c 4 "$program" | tail -c 3) == ELF ]]; then programs+=("$program"); fi  # no scripts
done < <(find -L "$bin/tests" "$bin/daemon" "$bin/client" -maxdepth 4 -type f -executable \
  \( -name '*_test' -o -name '*_fuzz' -o -name holdfastd -o -name libholdfast.so \) |
  grep -v runfiles/ | sort)
objects=()
for program in "${programs[@]:1}"; do objects+=(-object "$program"); done
llvm-cov-14 export --summary-only --instr-profile="$profiles/all.profdata" \
  "${programs[0]}" "${objects[@]}" > "$profiles/lines.json" 2> "$profiles/errors" || {
  tail -c 300 "$profiles/errors" >&2
  echo "coverage: lines failed"
  exit 1
}
tools/coverage_table.py "$minimum" < "$profiles/lines.json" || status=1
exit $status
