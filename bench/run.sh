#!/usr/bin/env bash
# Runs the benchmark beside Postfix's smtp-source, where that can be had. Arguments:
# --help tells.
set -euo pipefail
cd "$(dirname "$0")/.."

if bench/postfix.sh; then
    set -- --postfix target/bench/postfix "$@"
else
    echo "bench: no Postfix tools (apt-get download postfix failed): built-in sink, no raw limit" >&2
    set -- --sink builtin "$@"
fi
exec cargo bench --locked --bench delivery -- "$@"
