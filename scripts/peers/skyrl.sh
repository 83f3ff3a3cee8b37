#!/usr/bin/env bash
# A real SkyRL 0.4.0 (its Tinker API server on the JAX backend, on the CPU) with a tiny Llama made on the spot, and our training client
# against it: the suite that the embedded server passes. Installs into the cache once; after that a run takes two minutes.
#
# RECPIE_CACHE  cache folder (default ${XDG_CACHE_HOME:-~/.cache}/recpie)
# PYTHON        a Python 3.12, which SkyRL needs
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for p in "${PYTHON:-}" python3.12 "$HOME"/.pyenv/versions/3.12*/bin/python; do
  [ -n "$p" ] && "$p" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null && { PYTHON=$p; break; }
  PYTHON=
done
[ -n "$PYTHON" ] || die "SkyRL needs Python 3.12: install it, or name it in PYTHON"
export PYTHON

env=$cache/peers/skyrl
mkdir -p "$env"
exec 9>"$env/.lock"
flock 9 # one run at a time: they share the installation
environment "$env/venv" "$peers/skyrl-requirements.txt"

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -KILL -- "-$server" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$repo/internal/peers"
RECPIE_PEERS_OUT=$work/models nice ../../scripts/with-env go test -tags peers . -run '^TestWriteModels$' -count=1 >&2

# The API server starts its engine by `uv run … -m MODULE`; this uv runs it with the installed Python, and stays, for the engine reads its parent's command line.
mkdir "$work/bin"
printf '#!/bin/sh\nwhile [ "$1" != -m ]; do shift; done\n"%s" "$@"\n' "$env/venv/bin/python" >"$work/bin/uv"
chmod +x "$work/bin/uv"
port=$("$env/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(
  cd "$work"
  unset PYTHONDONTWRITEBYTECODE
  export PATH=$work/bin:$PATH HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 JAX_PLATFORMS=cpu OMP_NUM_THREADS=1
  exec setsid nice uv run -m skyrl.tinker.api --host 127.0.0.1 --port "$port" --base-model "$work/models/llama" --backend jax \
    --backend-config '{"max_lora_adapters": 32, "max_lora_rank": 8}' --checkpoints-base "$work/checkpoints" --database-url "sqlite:///$work/tinker.db"
) >"$work/server.log" 2>&1 9>&- &
server=$!
t0=$SECONDS
until "$env/venv/bin/python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=2)' "http://127.0.0.1:$port/api/v1/healthz" 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || { tail -40 "$work/server.log" >&2; die "SkyRL ended before it was ready"; }
  [ $((SECONDS - t0)) -lt 180 ] || { tail -40 "$work/server.log" >&2; die "SkyRL was not ready after 180 s"; }
  sleep 1
done
say "SkyRL serves after $((SECONDS - t0)) s"
RECPIE_SKYRL_URL=http://127.0.0.1:$port RECPIE_SKYRL_MODEL=$work/models/llama nice ../../scripts/with-env go test -tags peers . -run '^TestSkyRL$' -count=1 -v -timeout 10m |
  grep -v '^=== ' || { tail -30 "$work/server.log" >&2; die "the suite failed: see above"; }
