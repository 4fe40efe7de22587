#!/bin/bash
# What libholdfast.so shows and needs: a trainer brings its own Protobuf, C++ and allocator.
set -euo pipefail
library=$1

exported=$(nm -D --defined-only "$library" | awk '{print $3}')
if grep -qv '^hf_' <<< "$exported"; then
  echo "exported, and not of the ABI:"
  grep -v '^hf_' <<< "$exported"
  exit 1
fi
for name in hf_abi_version hf_connect hf_snapshot hf_fence hf_restore_load hf_finish; do
  grep -qx "$name" <<< "$exported" || { echo "missing: $name"; exit 1; }
done

needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
for name in $needed; do
  case $name in
    libisal.so.* | libprotobuf.so.* | libstdc++.so.* | libm.so.* | libgcc_s.so.* | libc.so.* | ld-linux* | libpthread.so.*) ;;
    *) echo "needs $name"; exit 1 ;;
  esac
done
readelf -d "$library" | grep -q NODELETE || { echo "may be unloaded under its atfork handler"; exit 1; }
echo "exports $(wc -l <<< "$exported") functions"
