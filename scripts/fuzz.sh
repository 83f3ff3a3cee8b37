#!/usr/bin/env bash
# fuzz.sh PACKAGE TIME: every fuzz target of a package for that long. Go sometimes ends a target that found nothing with "context deadline
# exceeded" when the time is up in the middle of an input; only an input that fails counts as a failure here.
set -uo pipefail
for target in $(go test "$1" -list Fuzz | grep ^Fuzz); do
  echo "$target"
  if ! out=$(go test "$1" -run xxx -fuzz "^$target\$" -fuzztime "$2" -fuzzminimizetime 10x 2>&1); then
    if grep -q 'Failing input written' <<<"$out" || ! grep -q 'context deadline exceeded' <<<"$out"; then
      echo "$out"
      exit 1
    fi
  fi
done
