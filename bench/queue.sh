#!/usr/bin/env bash
# The measurements of the queue and its ways out. Arguments: --help tells.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = postfix ] && ! bench/postfix.sh; then
    echo "bench: Postfix could not be fetched (apt-get download postfix failed)" >&2
    exit 1
fi
exec cargo bench --locked --profile quick --bench queue -- "$@"
