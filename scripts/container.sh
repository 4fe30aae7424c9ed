#!/usr/bin/env bash
# Builds the container image from dist/image/ (make dist) without a network, and tries it: started
# read-only, without capabilities, as nobody in particular, it delivers mail and stops when told.
# Everything is private and on loopback; what was started is ended.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'container: %s\n' "$*" >&2; exit 1; }
say() { printf 'container: %s\n' "$*"; }

command -v podman >/dev/null || fail "there is no podman: apt-get install podman buildah runc"
[ -x dist/image/postriderd ] || fail "there are no binaries: make dist"
postgres=${POSTRIDER_PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV | head -n 1)}
[ -x "$postgres/initdb" ] || fail "there is no Postgres: make setup"

image=localhost/postrider:try
# Each of these is needed where this runs inside of a container itself.
podman=(podman)
limits=(--ulimit nofile=16384:16384 --ulimit nproc=4096:4096)
command -v runc >/dev/null && podman=(podman --runtime runc)

"${podman[@]}" build -q --build-arg BINARIES=prebuilt -t "$image" . >/dev/null
size=$("${podman[@]}" image inspect --format '{{.Size}}' "$image")
say "image: $((size / 1000000)) MB, user $("${podman[@]}" image inspect --format '{{.User}}' "$image")"
[ "$size" -lt 40000000 ] || fail "larger than 40 MB: $size bytes"

run() { "${podman[@]}" run --rm "${limits[@]}" --network host --read-only --read-only-tmpfs=false \
    --cap-drop all --security-opt no-new-privileges "$@"; }
if run --entrypoint /bin/sh "$image" -c true 2>/dev/null; then fail "there is a shell in the image"; fi

folder=$(mktemp -d /tmp/postrider-image.XXXXXX)
port=$((20000 + RANDOM % 20000))
owner=(env HOME="$folder")
if [ "$(id -u)" -eq 0 ]; then
    chown postgres "$folder"
    owner=(setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$folder")
fi
sink=
ending() {
    local code=$?
    "${podman[@]}" rm -f -t 5 postrider-try >/dev/null 2>&1 || true
    [ -z "$sink" ] || kill "$sink" 2>/dev/null || true
    (cd "$folder" && "${owner[@]}" "$postgres/pg_ctl" -D "$folder/data" -m immediate -s stop) 2>/dev/null || true
    rm -rf "$folder"
    exit "$code"
}
trap ending EXIT

(cd "$folder" &&
    "${owner[@]}" "$postgres/initdb" -D "$folder/data" -U postgres -A trust --locale=C.UTF-8 -E UTF8 >/dev/null &&
    "${owner[@]}" "$postgres/pg_ctl" -D "$folder/data" -w -s -l "$folder/log" \
        -o "-k $folder -p $port -c listen_addresses=127.0.0.1" start)
key=$(head -c 32 /dev/urandom | base64)
mkdir -p "$folder/etc"
cat >"$folder/etc/postrider.toml" <<TOML
[database]
url = "postgres://postgres@127.0.0.1:$port/postgres"
[telemetry]
listen = "127.0.0.1:$((port + 1))"
[[source]]
name = "default"
ehlo = "mail.example.com"
[[route]]
name = "sink"
kind = "relay"
host = "127.0.0.1"
port = $((port + 2))
tls = "none"
TOML
chmod -R a+rX "$folder/etc" && chmod a+x "$folder"
tool=(env -i POSTRIDER_KEY="$key" USER=try dist/image/postrider --config "$folder/etc/postrider.toml")
"${tool[@]}" migrate up >/dev/null
"${tool[@]}" tenant create shop >/dev/null
"${tool[@]}" domain add --tenant shop shop.example >/dev/null
"${tool[@]}" sink --listen "127.0.0.1:$((port + 2))" --http "127.0.0.1:$((port + 3))" >/dev/null &
sink=$!

export POSTRIDER_KEY=$key
begun=$(date +%s%N)
run -d --name postrider-try -e POSTRIDER_KEY -v "$folder/etc:/etc/postrider:ro" "$image" \
    --config /etc/postrider/postrider.toml >/dev/null
ready=
for _ in $(seq 600); do
    if curl -fs "http://127.0.0.1:$((port + 1))/readyz" >/dev/null; then ready=1; break; fi
    sleep 0.05
done
[ -n "$ready" ] || { "${podman[@]}" logs postrider-try >&2 || true; fail "it is never ready"; }
say "ready after $((($(date +%s%N) - begun) / 1000000)) ms, with the start of the container"
grep -E 'Uid|CapEff|NoNewPrivs' "/proc/$("${podman[@]}" inspect --format '{{.State.Pid}}' postrider-try)/status" |
    tr -s '\t\n' ' '
echo

psql=("$postgres/psql" -h 127.0.0.1 -p "$port" -U postgres -qtA -c)
"${psql[@]}" "select postrider.submit((select tenant_id from postrider.tenant where name = 'shop'),
    'shop.example', 'bulk', '{\"from\":\"a@shop.example\",\"subject\":\"s\",\"text\":\"t\"}', null, null,
    (select array_agg('r' || n || '@example.org') from generate_series(1, 200) n), array_fill(null::text, array[200]))" >/dev/null
for _ in $(seq 600); do
    sent=$("${psql[@]}" "select count(*) from postrider.attempt where kind = 1")
    [ "$sent" -lt 200 ] || break
    sleep 0.1
done
[ "$sent" -eq 200 ] || { "${podman[@]}" logs postrider-try >&2; fail "sent $sent of 200"; }
say "sent $sent mails; memory $(curl -fs "http://127.0.0.1:$((port + 1))/metrics" | sed -n 's/^postrider_memory_bytes //p') bytes"

"${podman[@]}" stop -t 30 postrider-try >/dev/null
left=$("${psql[@]}" "select count(*) from postrider.lease")
[ "$left" -eq 0 ] || fail "$left deliveries stayed in its hands"
say "stopped when told, nothing in hand"
