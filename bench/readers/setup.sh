#!/usr/bin/env bash
# setup.sh: installs pandas and polars for the comparison into the cache folder and prints the Python that has them. A second run does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
venv=${RECPIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/recpie}/bench-readers-venv
if ! "$venv/bin/python" -c 'import pandas, polars' >/dev/null 2>&1; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --no-cache-dir --no-deps -r requirements.txt
fi
echo "$venv/bin/python"
