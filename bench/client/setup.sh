#!/usr/bin/env bash
# setup.sh: installs the Python clients of the comparison into the cache folder. A second run does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
venv=${RECPIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/recpie}/bench-client-venv
if ! "$venv/bin/python" -c 'import openai, litellm, aiohttp' >/dev/null 2>&1; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --no-cache-dir -r requirements.txt
fi
"$venv/bin/pip" list --format=freeze 2>/dev/null | grep -E '^(openai|litellm|aiohttp)==' | tr '\n' ' '
echo "in $venv"
