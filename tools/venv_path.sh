#!/bin/bash
# Prints the folder of the Python environment: shared between clones with the same requirements.
set -euo pipefail
cd "$(dirname "$0")"
hash=$(sha256sum requirements.txt | cut -c1-16)
echo "${XDG_CACHE_HOME:-$HOME/.cache}/holdfast/venv-$hash"
