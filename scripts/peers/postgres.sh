#!/usr/bin/env bash
# Starts a throw-away PostgreSQL from the distribution's packages, runs a command (default: the tests of the batch engine) with
# RECPIE_TEST_POSTGRES naming it and RECPIE_TEST_POSTGRES_CRASH a command that kills it at once and starts it again, and removes it.
#
#   scripts/peers/postgres.sh
#   scripts/peers/postgres.sh go test ./internal/queue -run Postgres -v
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# bindir prints the folder of initdb and postgres; Debian keeps them off the PATH.
bindir() {
  local p
  for p in "$(dirname "$(command -v initdb || echo /nowhere/initdb)")" $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -rV); do
    [ -x "$p/initdb" ] && [ -x "$p/postgres" ] && { echo "$p"; return; }
  done
  return 1
}

bin=$(bindir) || {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "PostgreSQL is missing: install the package postgresql of your distribution"
  say "installing postgresql"
  apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql >&2 || die "could not install postgresql: see the message above"
  bin=$(bindir) || die "the package postgresql brought no server"
}

# The server refuses to be root: then it runs as the package's user, or as nobody.
as=()
if [ "$(id -u)" = 0 ]; then
  user=postgres
  id "$user" >/dev/null 2>&1 || user=nobody
  as=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups)
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/recpie-postgres.XXXXXX")
[ ${#as[@]} = 0 ] || chown "$user" "$dir"
cleanup() {
  (cd "$dir" && "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate -s stop >/dev/null 2>&1) || true
  rm -rf "$dir"
}
trap cleanup EXIT

(
  cd "$dir" # initdb wants a folder that its user may enter
  "${as[@]}" "$bin/initdb" -D "$dir/data" -U recpie --auth=trust --no-instructions -E UTF8 --locale=C >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; exit 1; }
) || die "initdb failed"
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$dir'
shared_buffers = 256MB
max_wal_size = 2GB
max_connections = 200
CONF
cat >"$dir/crash" <<CRASH
#!/usr/bin/env bash
cd "$dir"
${as[*]} "$bin/pg_ctl" -D "$dir/data" -m immediate -s -w stop
sleep "\${1:-0}"
${as[*]} "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -s -w start >/dev/null 2>&1
CRASH
chmod +x "$dir/crash"
(cd "$dir" && "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -s -w start >/dev/null) || { cat "$dir/server.log" >&2; die "the server did not start"; }

export RECPIE_TEST_POSTGRES="postgres://recpie@/postgres?host=$dir"
export RECPIE_TEST_POSTGRES_CRASH="$dir/crash"
say "PostgreSQL $("$bin/postgres" --version | grep -o '[0-9.]*' | head -1) in $dir"
cd "$repo"
[ $# -gt 0 ] || set -- go test ./internal/queue -timeout 30m -count 1
status=0
"$@" || status=$?
exit $status
