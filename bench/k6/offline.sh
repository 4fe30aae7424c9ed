#!/usr/bin/env bash
# The scenarios of submit.js without k6: by oha (cargo install --locked oha), whose requests also begin
# by the clock (-q). Every call has the same body and no idempotency key.
#
#   API=http://127.0.0.1:8025 KEY=… FROM=a@shop.example bench/k6/offline.sh baseline|spike|soak
set -euo pipefail

scenario=${1:-baseline}
rate=${RATE:-200}
command -v oha >/dev/null || { echo "offline: there is no oha: cargo install --locked oha" >&2; exit 1; }
: "${API:?the address of the API}" "${KEY:?a key}" "${FROM:?an address of one of the tenant\'s domains}"

body=$(printf '{"from":"%s","subject":"Order","text":"It is on its way.","stream":"%s","recipients":[{"to":"ann@example.org"}]}' \
    "$FROM" "${STREAM:-transactional}")
run() { # rate, seconds
    printf '\n== %s: %s calls a second for %s s\n' "$scenario" "$1" "$2"
    oha --no-tui -q "$1" -z "${2}s" -c $(($1 < 50 ? 50 : $1)) --latency-correction -m POST -d "$body" \
        -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' "$API/v1/messages"
}
case $scenario in
    baseline) run "$rate" "${SECONDS_LONG:-300}" ;;
    spike) run "$rate" 60; run $((rate * 10)) 60; run "$rate" 180 ;;
    soak) run $((rate / 2)) "${SECONDS_LONG:-14400}" ;;
    *) echo "offline: expected baseline, spike or soak, found $scenario" >&2; exit 2 ;;
esac
