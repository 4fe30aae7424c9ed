#!/usr/bin/env bash
# What 1 % of the traces costs: the delivery benchmark without and with them in turns, a b b a, so
# that each pair stands beside each other. Says the median of the pairs' ratios.
#
#   bench/traces.sh [PAIRS] [MAILS OF A RUN]
set -euo pipefail
cd "$(dirname "$0")/.."

pairs=${1:-10} mails=${2:-40000}
cargo build --locked --profile quick --bins --bench delivery

run() { # what more is asked for: messages/s and us of the daemon's CPU per message
    cargo bench --locked --profile quick --bench delivery -- --sink builtin --count "$mails" --size 1k --dkim none "$@" 2>/dev/null |
        awk -F '|' '$5 ~ /builtin/ { print $6, $8 }'
}
for pair in $(seq "$pairs"); do
    if ((pair % 2)); then
        without=$(run) with=$(run --traces 0.01)
    else
        with=$(run --traces 0.01) without=$(run)
    fi
    echo "pair $pair: without $without, with $with (messages/s, us)" >&2
    echo "$without $with"
done | awk '
    { rate[NR] = $3 / $1; cpu[NR] = $4 / $2 }
    function median(list, n,    i, j, t) {
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && list[j - 1] > list[j]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    END {
        cost = 100 * (median(cpu, NR) - 1)
        printf "%d pairs: with 1 %% of the traces %+.1f %% messages/s, %+.1f %% CPU of the daemon a message\n",
            NR, 100 * (median(rate, NR) - 1), cost
        print (cost < 3 ? "met" : "MISSED") ": below 3 %"
    }'
