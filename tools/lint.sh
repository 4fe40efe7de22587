#!/bin/bash
# Checks formatting, the rules of tools/lint_rules.py, and clang-tidy. Prints "lint: <check> passed",
# "failed" or "skipped: <why>" for each; the exit code says whether none failed.
#   --fix            format in place and stop
#   --tidy=all       clang-tidy on all files (default; clean results are cached)
#   --tidy=changed   only on files that differ from the commit before, or from $LINT_BASE
#   --tidy=off
#   --at-most=N      skip clang-tidy where more than N files are not known to be clean (default: never)
#   --budget=SECONDS stop starting clang-tidy runs after so long (default 0: no limit), and fail
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
tidy=all
budget=0
at_most=-1
fix=0
for argument in "$@"; do
  case $argument in
    --fix) fix=1 ;;
    --tidy=all | --tidy=changed | --tidy=off) tidy=${argument#*=} ;;
    --budget=*) budget=${argument#*=} ;;
    --at-most=*) at_most=${argument#*=} ;;
    *) echo "unknown option $argument" >&2; exit 2 ;;
  esac
done

mapfile -t files < <(git ls-files --cached --others --exclude-standard -- \
  '*.h' '*.cc' '*.c' '*.cpp' '*.cu' | sort -u | while read -r f; do [[ -e $f ]] && echo "$f"; done)

if ((fix)); then
  ((${#files[@]} == 0)) || clang-format-14 -i "${files[@]}"
  exit 0
fi

skipped=75  # run_tidy.py: more files than --at-most
why=$(mktemp)
trap 'rm -f "$why"' EXIT
status=0
check() {
  local name=$1 code=0
  shift
  "$@" || code=$?
  case $code in
    0) echo "lint: $name passed" ;;
    "$skipped") echo "lint: $name skipped: $(tail -n 1 "$why")" ;;
    *) echo "lint: $name failed"; status=1 ;;
  esac
}

check_format() {
  ((${#files[@]} == 0)) || clang-format-14 --dry-run --Werror --ferror-limit=3 "${files[@]}"
}

# clang-tidy reads generated Protobuf headers, so these are made first.
check_tidy() {
  local -a generated wanted
  mapfile -t generated < <($bazel query --noshow_progress 'attr(tags, "proto_gen", //...)')
  ((${#generated[@]} == 0)) || $bazel build --noshow_progress "${generated[@]}" || return 1
  wanted=("${files[@]}")
  if [[ $tidy == changed ]]; then
    mapfile -t wanted < <({ git diff --name-only "${LINT_BASE:-HEAD~1}" 2> /dev/null ||
      git ls-files; git ls-files --others --exclude-standard; } | sort -u)
    mapfile -t wanted < <(comm -12 <(printf '%s\n' "${wanted[@]}") <(printf '%s\n' "${files[@]}" | sort))
  fi
  tools/run_tidy.py --budget="$budget" --at-most="$at_most" \
    --bazel-bin="$($bazel info bazel-bin 2> /dev/null)" \
    --cuda-include="$($bazel info output_base 2> /dev/null)/external/cuda/include" "${wanted[@]}" |
    tee "$why"
}

check clang-format check_format
check rules tools/lint_rules.py
[[ $tidy == off ]] || check clang-tidy check_tidy
exit $status
