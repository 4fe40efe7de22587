#!/bin/bash
# Measures Holdfast beside its ceilings and prints one table; bench/README.md says what it means.
# --only NAME picks a work, --quick sees whether everything runs.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "$(tools/venv_path.sh)/bin/python" bench/run.py "$@"
