#!/usr/bin/env bash
# The official Python SDK of the training API against the embedded training server: the newest release that we know, the oldest that
# speaks the protocol, and one between. Installs 250 MB into the cache once; the checks take a minute.
#
#   scripts/peers/sdk.sh [CHECK...]     (all checks of sdk_check.py when none is named)
#
# RECPIE_CACHE  cache folder (default ${XDG_CACHE_HOME:-~/.cache}/recpie)
# PYTHON        a Python 3.11 or 3.12
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

earlier="0.25.0 0.30.4"
env=$cache/peers/sdk
environment "$env/venv" "$peers/sdk-requirements.txt"
paths=("")
for version in $earlier; do
  old=$env/tinker-$version
  [ -e "$old/tinker/__init__.py" ] || nice "$env/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --no-compile --target "$old" "tinker==$version"
  paths+=("$old")
done

export RECPIE_SDK_PYTHON=$env/venv/bin/python RECPIE_SDK_CHECKS="$*"
cd "$repo"
for path in "${paths[@]}"; do
  say "${path:-"$env/venv"}"
  PYTHONPATH=$path nice scripts/with-env go test -tags peers ./internal/peers -run '^TestSDK$' -count=1 -v -timeout 5m | grep -v '^=== ' || exit 1
done
