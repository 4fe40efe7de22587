#!/bin/bash
# Searches with each fuzz target (or those given) for FUZZ_SECONDS, from its corpus. New inputs and
# crashes land in fuzz-out/<target>, outside the checked-in corpus: copy in what is worth keeping.
# Prints "fuzz: <target> passed" or "failed" for each. FUZZ_CONFIG=asan takes the objects that the tests
# were built of, without traced compares.
set -euo pipefail
cd "$(dirname "$0")/.."
bazel=${BAZEL:-bazel}
seconds=${FUZZ_SECONDS:-60}
config=${FUZZ_CONFIG:-fuzz}
export LLVM_PROFILE_FILE=/dev/null
export ASAN_SYMBOLIZER_PATH=/usr/bin/llvm-symbolizer-14

targets=("$@")
if ((${#targets[@]} == 0)); then
  mapfile -t targets < <($bazel query --noshow_progress 'attr(tags, "\bfuzz\b", kind(cc_test, //...))')
fi
if ((${#targets[@]} == 0)); then
  echo "no fuzz targets" >&2
  exit 1
fi
$bazel build --config="$config" "${targets[@]}"
bin=$($bazel info --config="$config" bazel-bin 2>/dev/null)
failed=0
for target in "${targets[@]}"; do
  path=${target#//}
  verdict=passed
  out=${FUZZ_OUT:-fuzz-out}/${path##*:}
  mkdir -p "$out/corpus"
  # The seeds are the target's checked-in data files, wherever they lie.
  mapfile -t seeds < <($bazel query --noshow_progress "kind('source file', labels(data, $target))" |
    sed -e 's|^//||' -e 's|:|/|')
  if ((${#seeds[@]})); then cp -f "${seeds[@]}" "$out/corpus/"; fi
  echo "== $target for ${seconds}s"
  # A search tells of each new input, thousands of lines; what counts is its end.
  "$bin/${path/://}" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$out/" \
    "$out/corpus" > "$out/log" 2>&1 || verdict=failed
  if [[ $verdict == passed ]]; then tail -n 8 "$out/log"; else tail -n 200 "$out/log"; fi
  echo "fuzz: $target $verdict"
  [[ $verdict == passed ]] || failed=1
done
exit $failed
