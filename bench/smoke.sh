#!/usr/bin/env bash
# Does the benchmark still work? Small, unoptimised, without numbers that mean anything.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --locked --profile dev --bench delivery -- --count 500 --sink builtin
