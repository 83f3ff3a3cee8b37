# Shared by the scripts beside it; to be sourced.

cache=${RECPIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/recpie}
peers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$peers/../.." && pwd)

say() { printf 'peers: %s\n' "$*" >&2; }
die() { printf 'peers: %s\n' "$*" >&2; exit 1; }

# interpreter prints a Python that the pinned wheels are for.
interpreter() {
  local p
  for p in "${PYTHON:-}" python3.11 python3.12 python3; do
    [ -n "$p" ] && "$p" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo "$p"; return; }
  done
  die "Python 3.11 or 3.12 with its venv module is missing: install it, or name it in PYTHON"
}

# environment DIR REQUIREMENTS: a virtual environment with exactly the pinned packages. It is whole or absent: a run that was cut
# off starts again, and a changed list replaces it.
environment() {
  local dir=$1 list=$2 python stamp
  stamp=$(sha256sum <"$list" | cut -d' ' -f1)
  [ "$(cat "$dir/.complete" 2>/dev/null)" = "$stamp" ] && return
  python=$(interpreter)
  say "installing $(basename "$list" .txt) into $dir"
  rm -rf "$dir"
  mkdir -p "$(dirname "$dir")"
  nice "$python" -m venv "$dir"
  nice "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --no-compile -r "$list" ||
    die "could not install the packages of $list: see the message above"
  echo "$stamp" >"$dir/.complete"
}
