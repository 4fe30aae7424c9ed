#!/usr/bin/env bash
# Do the benchmarks still work? Small, unoptimised, without numbers that mean anything. Arguments go
# to cargo: with the features of a build that is there already nothing is built again.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=(cargo bench --locked --profile dev "$@")
"${cargo[@]}" --bench delivery -- --count 500 --sink builtin
queue() { "${cargo[@]}" --bench queue -- "$@"; }
queue claims --waiting 10000 --rounds 1 --jobs 500
queue upload --recipients 5000
queue fairness --waiting 2000 --seconds 3
queue soak --minutes 3 --minute 2 --rate 100 --tenants 2
queue far --connections 10 --delay-ms 20 --seconds 1
queue destinations --destinations 200
queue together --mails 1000
