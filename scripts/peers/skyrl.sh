#!/usr/bin/env bash
# A real SkyRL server of the training API on the CPU, with a tiny random Llama made on the spot, and the suite of our training client
# over it. Installs 6 GB into the cache once (5 minutes with a fast network); after that a run takes 3 minutes and 2 GB of memory.
#
#   scripts/peers/skyrl.sh [TEST]     (part of the suite when named, as "samples")
#
# RECPIE_CACHE  cache folder (default ${XDG_CACHE_HOME:-~/.cache}/recpie)
# PYTHON        a Python 3.12
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

env=$cache/peers/skyrl
mkdir -p "$env"
exec 9>"$env/.lock"
flock 9 # one run at a time: they share the installation
[ -e "$env/venv/.complete" ] || [ "$(df -Pk "$env" | awk 'NR==2{print $4}')" -gt $((10 << 20)) ] || die "the installation needs 10 GB of free disk in $env"
environment "$env/venv" "$peers/skyrl-requirements.txt" 12

work=$(mktemp -d)
server=
leave() {
  [ -z "$server" ] || { kill -KILL -- "-$server"; wait "$server"; } 2>/dev/null || true # its engine is in its group
  rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM

export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 DO_NOT_TRACK=1 JAX_PLATFORMS=cpu OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
unset PYTHONDONTWRITEBYTECODE # the installation compiles nothing: the first start does, and keeps it
nice "$env/venv/bin/python" "$peers/skyrl_model.py" "$work/tiny-llama" 2>"$work/model.log" || { cat "$work/model.log" >&2; die "the model could not be made"; }

# SkyRL starts its engine with uv, and reads in its parent's command line how uv started it. Here uv is the environment's Python.
mkdir "$work/bin"
cat >"$work/bin/uv" <<EOS
#!/bin/sh
while [ "\$1" != -m ]; do shift; done
"$env/venv/bin/python" "\$@"
EOS
chmod +x "$work/bin/uv"

port=$("$env/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
t0=$SECONDS
(cd "$work" && PATH=$work/bin:$PATH exec setsid nice uv run -m skyrl.tinker.api --host 127.0.0.1 --port "$port" --base-model "$work/tiny-llama" \
  --backend jax --backend-config '{"max_lora_adapters": 32, "max_lora_rank": 8}' \
  --checkpoints-base "$work/checkpoints" --database-url "sqlite:///$work/tinker.db") >"$work/server.log" 2>&1 9>&- &
server=$!
until "$env/venv/bin/python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/api/v1/healthz", timeout=2)' "$url" 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || { tail -40 "$work/server.log" >&2; die "SkyRL ended before it was ready"; }
  [ $((SECONDS - t0)) -lt 240 ] || { tail -40 "$work/server.log" >&2; die "SkyRL was not ready after 240 s"; }
  sleep 1
done
say "SkyRL serves after $((SECONDS - t0)) s"

cd "$repo"
out=$work/tests.out
RECPIE_SKYRL_URL=$url RECPIE_SKYRL_MODEL=$work/tiny-llama nice scripts/with-env go test -tags peers ./internal/peers -run "^TestSkyRL\$${1:+/$1}" -count=1 -v -timeout 9m >"$out" 2>&1 9>&- ||
  { cat "$out"; tail -40 "$work/server.log" >&2; die "the tests failed: see above"; }
grep -v '^=== ' "$out"
grep -q '^--- PASS' "$out" && ! grep -q -- '--- SKIP' "$out" || die "the tests did not run"
