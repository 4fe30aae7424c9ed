#!/usr/bin/env bash
# The measurements of the queue: claims, soak, fairness, upload. Arguments: --help tells.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --locked --profile quick --bench queue -- "$@"
