#!/usr/bin/env bash
# setup.sh: installs vLLM, transformers and PEFT for the comparison into the cache folder (5.2 GB, once) and prints a Python that has them.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/peers/lib.sh"
env=$cache/peers/vllm
environment "$env/venv" "$peers/vllm-requirements.txt"
packages "$cache/peers/peft" "$env/venv" "$peers/peft-requirements.txt"
alias=$env/alias/vllm-0.32.0+cpu.dist-info # vLLM asks its own metadata whether it was built for the CPU
mkdir -p "$alias"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$alias/METADATA"
printf '#!/bin/sh\nPYTHONPATH=%q exec %q "$@"\n' "$cache/peers/peft:$env/alias" "$env/venv/bin/python" >"$cache/peers/bench-lm-python"
chmod +x "$cache/peers/bench-lm-python"
echo "$cache/peers/bench-lm-python"
