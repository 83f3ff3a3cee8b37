#!/usr/bin/env bash
# The RL loop of tinker-cookbook, the example of the training API's vendor, against "recpie lm serve": six batches each with importance_sampling and
# cispo, checkpoints between them. Uses the environment of vllm.sh (5.2 GB, installed once); two minutes.
#
# RECPIE_CACHE  cache folder (default ${XDG_CACHE_HOME:-~/.cache}/recpie)
# PYTHON        a Python 3.11 or 3.12
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

environment "$cache/peers/vllm/venv" "$peers/vllm-requirements.txt"
packages "$cache/peers/cookbook" "$cache/peers/vllm/venv" "$peers/cookbook-requirements.txt"

work=$(mktemp -d)
server=
leave() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap leave EXIT
cd "$repo"
nice scripts/with-env go build -o "$work/recpie" ./cmd/recpie
model=$("$work/recpie" lm warmup --set lm.family=qwen2)
port=$("$cache/peers/vllm/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/recpie" lm serve --model "$model" --name "$model" --listen "127.0.0.1:$port" --adapter-root off --state "$work/state" --drop-unembed 2>"$work/serve.log" &
server=$!
for _ in $(seq 100); do
  grep -q '^serving' "$work/serve.log" && break
  sleep 0.2
done
for loss in importance_sampling cispo; do
  PYTHONPATH=$cache/peers/cookbook PYTHONDONTWRITEBYTECODE=1 TINKER_API_KEY=tml-none TINKER_TELEMETRY=0 HF_HUB_OFFLINE=1 nice \
    "$cache/peers/vllm/venv/bin/python" "$peers/cookbook_drive.py" "http://127.0.0.1:$port" "$model" "$work/$loss" "$loss" >"$work/$loss.log" 2>&1 ||
    { tail -40 "$work/$loss.log" "$work/serve.log" >&2; die "the cookbook's loop with $loss failed: see above"; }
  steps=$(grep -c grad_norm "$work/$loss/metrics.jsonl" || true)
  [ "$steps" -ge 5 ] || die "only $steps of six batches of the cookbook's loop with $loss made a step"
  say "the cookbook's loop with $loss: $steps steps, $(grep -c '"state_path"' "$work/$loss/checkpoints.jsonl") checkpoints"
done
