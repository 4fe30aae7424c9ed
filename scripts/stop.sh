#!/usr/bin/env bash
# Stops the private Postgres servers that a killed run left below target/.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
for note in "$target"/{dev/postgres,test-postgres,bench/postgres}{,/moved}/data-*/postmaster.pid; do
    [ -r "$note" ] || continue
    # A run that is up keeps its lock; only what a killed one left is stopped.
    lock=${note%%/postgres*}/lock
    if [ -e "$lock" ] && ! flock -n "$lock" true; then continue; fi
    pid=$(head -n 1 "$note")
    # The note may be old and the number somebody else's by now.
    [ "$(readlink "/proc/$pid/cwd" || true)" = "$(realpath "$(dirname "$note")")" ] || continue
    echo "stop: Postgres $pid in $(dirname "$note")"
    kill -INT "$pid"
    for _ in $(seq 100); do
        [ -e "$note" ] || continue 2
        sleep 0.1
    done
    echo "stop: $pid does not end" >&2
    exit 1
done
