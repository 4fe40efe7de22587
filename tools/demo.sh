#!/bin/bash
# Kills trainers, daemons, memory and bits of a small training, and shows that the same bits come
# out. Needs what `make build` builds. --part N plays one part, --keep keeps the folders.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "$(tools/venv_path.sh)/bin/python" tools/demo/run.py "$@"
