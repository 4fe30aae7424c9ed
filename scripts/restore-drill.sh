#!/usr/bin/env bash
# A restore drill: a base backup under load, the loss of the database some seconds later, the
# restore, `postrider recover`, and the audit. Shows that nothing acknowledged before the backup is lost,
# and that nothing is sent twice that the database does not call doubtful. Everything is
# private and on loopback, in a folder of its own that goes away again.
#
#   scripts/restore-drill.sh [FOLDER WITH THE PROGRAMS] [SECONDS OF LOAD AFTER THE BACKUP]
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'drill: FAILED: %s\n' "$*" >&2; exit 1; }
say() { printf 'drill: %s\n' "$*"; }

programs=${1:-${CARGO_TARGET_DIR:-target}/debug}
after=${2:-5}
[ -x "$programs/postriderd" ] || fail "there is no $programs/postriderd: cargo build --bins"
postgres=${POSTRIDER_PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV | head -n 1)}
[ -x "$postgres/pg_basebackup" ] || fail "there is no pg_basebackup: make setup"

folder=$(mktemp -d /tmp/drill.XXXXXX)
port=$((20000 + RANDOM % 20000))
owner=(env HOME="$folder")
if [ "$(id -u)" -eq 0 ]; then
    chown postgres "$folder"
    owner=(setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$folder")
fi
started=()
begin() { "$@" >>"$folder/processes.log" 2>&1 & started+=($!); }
halt() { # each of the processes started, in this way, and waits for them
    local pid
    for pid in "${started[@]}"; do kill "-$1" "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    started=()
}
server() { (cd "$folder" && "${owner[@]}" "$postgres/pg_ctl" -D "$folder/$1" -s "${@:2}"); }
ending() {
    local code=$?
    [ "$code" -eq 0 ] || { tail -n 20 "$folder/processes.log" >&2 2>/dev/null || true; }
    halt KILL
    [ -z "${sink:-}" ] || kill "$sink" 2>/dev/null || true
    server old -m immediate stop 2>/dev/null || true
    server new -m immediate stop 2>/dev/null || true
    rm -rf "$folder"
    exit "$code"
}
trap ending EXIT

options="-k $folder -p $port -c listen_addresses='' -c wal_level=replica -c max_wal_senders=4"
(cd "$folder" && "${owner[@]}" "$postgres/initdb" -D "$folder/old" -U postgres -A trust --locale=C.UTF-8 -E UTF8 >/dev/null)
server old -w -l "$folder/old.log" -o "$options" start
psql() { "$postgres/psql" -h "$folder" -p "$port" -U postgres -v ON_ERROR_STOP=1 -qtAc "$1"; }

cat >"$folder/postrider.toml" <<TOML
[database]
url = "postgres:///postgres?host=$folder&port=$port&user=postgres&sslmode=disable"
[queue]
session_ttl = "4s"
beat_interval = "500ms"
[telemetry]
listen = "127.0.0.1:$((port + 1))"
[api]
listen = "127.0.0.1:$((port + 2))"
[[source]]
name = "default"
ehlo = "mail.example.com"
[[route]]
name = "sink"
kind = "relay"
host = "127.0.0.1"
port = $((port + 3))
tls = "none"
[[throttle]]
scope = "tenant"
rate = "60/s"
TOML
chmod a+rx "$folder"
POSTRIDER_KEY=$(head -c 32 /dev/urandom | base64)
export POSTRIDER_KEY POSTRIDER_CONFIG=$folder/postrider.toml
tool() { "$programs/postrider" "$@"; }
tool migrate up >/dev/null
tool tenant create shop >/dev/null
tool domain add --tenant shop shop.example >/dev/null
tool key create --tenant shop --json | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p' >"$folder/key"
"$programs/postrider" sink --listen "127.0.0.1:$((port + 3))" --http "127.0.0.1:$((port + 4))" --keep 100000 >/dev/null &
sink=$!
begin "$programs/postriderd"
begin "$programs/postrider-api"
for _ in $(seq 300); do curl -fs "http://127.0.0.1:$((port + 2))/readyz" >/dev/null && break || sleep 0.1; done

# Load: a call with ten recipients, over and over; what is acknowledged is noted before the next.
submit() { # one call, numbered $1
    local to
    to=$(for r in 0 1 2 3 4 5 6 7 8 9; do printf '%s{"to":"m%s-%s@example.org"}' "${sep-}" "$1" "$r"; sep=,; done)
    curl -fs -m 5 "http://127.0.0.1:$((port + 2))/v1/messages" -H "Authorization: Bearer $(cat "$folder/key")" \
        -H 'Content-Type: application/json' -H "Idempotency-Key: drill-$1" \
        -d "{\"from\":\"a@shop.example\",\"subject\":\"s\",\"text\":\"t\",\"stream\":\"bulk\",\"recipients\":[$to]}" >/dev/null &&
        echo "$1" >>"$folder/acknowledged"
}
load() { # numbers from $1, for $2 seconds
    local n=$1 until=$((SECONDS + $2))
    while [ "$SECONDS" -lt "$until" ]; do submit "$n" || true; n=$((n + 1)); sleep 0.05; done
}
stats() { curl -fs "http://127.0.0.1:$((port + 4))/stats" | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"; }

load 1 4
before=$(wc -l <"$folder/acknowledged")
begun=$SECONDS
load 100000 3 &
submitting=$!
(cd "$folder" && "${owner[@]}" "$postgres/pg_basebackup" -h "$folder" -p "$port" -U postgres -D "$folder/new" -X stream -c fast)
wait "$submitting" || true
say "backup under load: $((SECONDS - begun)) s; $before calls acknowledged before it"
load 200000 "$after"

# The loss: the machine with the database is gone, and the processes on it.
lost=$(psql "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
server old -m immediate stop
halt KILL
sent=$(stats accepted)
twice=$(stats duplicates)
say "lost at $lost: $(wc -l <"$folder/acknowledged") calls acknowledged, $sent mails sent, $twice of them twice"

# The restore: nobody but this script can reach the server before recover is done.
begun=$SECONDS
server new -w -l "$folder/new.log" -o "$options" start
tool recover --lost-until "$lost" --reason 'restore drill'
say "restored and held: $((SECONDS - begun)) s"

missing=0
for n in $(head -n "$before" "$folder/acknowledged"); do
    known=$(psql "select count(*) from postrider.job where recipient like 'm$n-%@example.org'")
    [ "$known" -eq 10 ] || missing=$((missing + 10 - known))
done
[ "$missing" -eq 0 ] || fail "$missing deliveries acknowledged before the backup are not there"

begin "$programs/postriderd"
for _ in $(seq 300); do curl -fs "http://127.0.0.1:$((port + 1))/readyz" >/dev/null && break || sleep 0.1; done
for _ in $(seq 300); do
    left=$(psql "select (select count(*) from postrider.ready where run_at <= now()) + (select count(*) from postrider.lease)")
    [ "$left" -gt 0 ] || break
    sleep 0.1
done
[ "$(stats accepted)" -eq "$sent" ] || fail "$(($(stats accepted) - sent)) mails were sent again before anybody decided"
held=$(psql "select count(*) from postrider.dead_letter where reason = 'doubt'")
say "$held held in doubt, nothing sent again"

tool doubt resolve --all-before 2100-01-01T00:00:00Z --resend --reason 'restore drill' >/dev/null
for _ in $(seq 1200); do
    left=$(psql "select (select count(*) from postrider.ready where run_at <= now()) + (select count(*) from postrider.lease)")
    [ "$left" -gt 0 ] || break
    sleep 0.1
done
tool audit >/dev/null || fail "postrider audit"
flagged=$(psql "select count(distinct job_id) from postrider.attempt where in_doubt")
again=$(($(stats duplicates) - twice))
[ "$again" -le "$flagged" ] || fail "$again sent twice, $flagged flagged"
say "resent: $again came twice, $flagged are flagged; the audit adds up"
halt TERM
say "held: nothing acknowledged before the backup is lost, nothing comes twice unflagged"
