#!/usr/bin/env bash
# What transformers and PEFT compute on tiny random checkpoints of every architecture, beside our engine: logits with and without adapter
# and soft prompts, gradients, files read both ways, and the ids of 12,000 lines by the tokenizers of all families. Uses the environment of vllm.sh (5.2 GB, installed once); a minute.
#
# RECPIE_CACHE  cache folder (default ${XDG_CACHE_HOME:-~/.cache}/recpie)
# PYTHON        a Python 3.11 or 3.12
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

environment "$cache/peers/vllm/venv" "$peers/vllm-requirements.txt"
packages "$cache/peers/peft" "$cache/peers/vllm/venv" "$peers/peft-requirements.txt"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#!/bin/sh\nPYTHONPATH=%q exec %q "$@"\n' "$cache/peers/peft" "$cache/peers/vllm/venv/bin/python" >"$work/python"
chmod +x "$work/python"
cd "$repo"
export RECPIE_PEFT_PYTHON=$work/python PYTHONDONTWRITEBYTECODE=1
nice scripts/with-env go test -tags peers ./internal/lm -run "^TestAgainstTransformers\$" -count=1 -v -timeout 8m | grep -v "^=== "
nice scripts/with-env go test -tags peers ./internal/tokenizer -run "^TestAgainstTransformers\$" -count=1 -v -timeout 8m | grep -v "^=== "
