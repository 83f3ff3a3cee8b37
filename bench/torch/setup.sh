#!/usr/bin/env bash
# setup.sh: installs PyTorch for the comparison into the cache folder (about 3 GB to fetch). A second run does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
venv=${RECPIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/recpie}/bench-venv
if ! "$venv/bin/python" -c 'import torch' >/dev/null 2>&1; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --no-cache-dir --no-deps -r requirements.txt
fi
"$venv/bin/python" -c 'import torch; print("PyTorch", torch.__version__, "in '"$venv"'")'
