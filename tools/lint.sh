#!/bin/bash
# Checks formatting, the rules of tools/lint_rules.py, and clang-tidy. Prints "lint: <check> passed" or
# "failed" for each; the exit code says whether all passed.
#   --fix            format in place and stop
#   --tidy=all       clang-tidy on all files (default; clean results are cached)
#   --tidy=changed   only on files that differ from the commit before, or from $LINT_BASE
#   --tidy=off
#   --budget=SECONDS stop starting clang-tidy runs after so long (default 1200, 0: no limit)
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
tidy=all
budget=1200
fix=0
for argument in "$@"; do
  case $argument in
    --fix) fix=1 ;;
    --tidy=all | --tidy=changed | --tidy=off) tidy=${argument#*=} ;;
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

status=0
check() {
  local name=$1
  shift
  if "$@"; then
    echo "lint: $name passed"
  else
    echo "lint: $name failed"
    status=1
  fi
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
  tools/run_tidy.py --budget="$budget" --bazel-bin="$($bazel info bazel-bin 2> /dev/null)" \
    --cuda-include="$($bazel info output_base 2> /dev/null)/external/cuda/include" "${wanted[@]}"
}

check clang-format check_format
check rules tools/lint_rules.py
[[ $tidy == off ]] || check clang-tidy check_tidy
exit $status
