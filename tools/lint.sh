#!/bin/bash
# Checks formatting, the rules of tools/lint_rules.py, and clang-tidy. Prints "lint: <check> passed" or
# "failed" for each; the exit code says whether none failed.
#   --fix            format in place and stop
#   --tidy=off       no clang-tidy (by default on all files; clean results are cached)
#   --budget=SECONDS stop starting clang-tidy runs after so long (default 0: no limit); the files that
#                    are left are said to be skipped
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
tidy=all
budget=0
fix=0
for argument in "$@"; do
  case $argument in
    --fix) fix=1 ;;
    --tidy=all | --tidy=off) tidy=${argument#*=} ;;
    --budget=*) budget=${argument#*=} ;;
    *) echo "unknown option $argument" >&2; exit 2 ;;
  esac
done

mapfile -t files < <(git ls-files --cached --others --exclude-standard -- \
  '*.h' '*.cc' '*.c' '*.cpp' '*.cu' | sort -u | while read -r f; do [[ -e $f ]] && echo "$f"; done)

if ((fix)); then
  ((${#files[@]} == 0)) || clang-format-14 -i "${files[@]}"
  exit 0
fi

skipped=75  # run_tidy.py: clean so far, and the budget is over
why=$(mktemp)
trap 'rm -f "$why"' EXIT
status=0
check() {
  local name=$1 code=0
  shift
  "$@" || code=$?
  case $code in
    0) echo "lint: $name passed" ;;
    "$skipped") echo "lint: $name passed"
      echo "lint: $name of the files that are left skipped: $(tail -n 1 "$why")" ;;
    *) echo "lint: $name failed"; status=1 ;;
  esac
}

check_format() {
  ((${#files[@]} == 0)) || clang-format-14 --dry-run --Werror --ferror-limit=3 "${files[@]}"
}

# clang-tidy reads generated Protobuf headers, so these are made first.
check_tidy() {
  local -a generated
  mapfile -t generated < <($bazel query --noshow_progress 'attr(tags, "proto_gen", //...)')
  ((${#generated[@]} == 0)) || $bazel build --noshow_progress "${generated[@]}" || return 1
  tools/run_tidy.py --budget="$budget" \
    --bazel-bin="$($bazel info bazel-bin 2> /dev/null)" \
    --cuda-include="$($bazel info output_base 2> /dev/null)/external/cuda/include" "${files[@]}" |
    tee "$why"
}

check clang-format check_format
check rules tools/lint_rules.py
[[ $tidy == off ]] || check clang-tidy check_tidy
exit $status
