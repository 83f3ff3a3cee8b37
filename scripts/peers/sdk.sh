#!/usr/bin/env bash
# The official Python SDK of the training API against the embedded training server: the newest release that we know and the
# oldest that speaks the protocol. Installs 250 MB into the cache once; the checks take half a minute.
#
#   scripts/peers/sdk.sh [CHECK...]     (all checks of sdk_check.py when none is named)
#
# RECPIE_CACHE  cache folder (default ${XDG_CACHE_HOME:-~/.cache}/recpie)
# PYTHON        a Python 3.11 or 3.12
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

oldest=0.25.0
env=$cache/peers/sdk
environment "$env/venv" "$peers/sdk-requirements.txt"
old=$env/tinker-$oldest
[ -e "$old/tinker/__init__.py" ] || nice "$env/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --no-compile --target "$old" "tinker==$oldest"

export RECPIE_SDK_PYTHON=$env/venv/bin/python RECPIE_SDK_CHECKS="$*"
cd "$repo"
for path in "" "$old"; do
  say "${path:-"$env/venv"}"
  PYTHONPATH=$path nice scripts/with-env go test -tags peers ./internal/peers -run '^TestSDK$' -count=1 -v -timeout 5m | grep -v '^=== ' || exit 1
done
