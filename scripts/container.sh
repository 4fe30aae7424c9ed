#!/usr/bin/env bash
# Builds the container image without a network and tries it: started read-only, without
# capabilities and as nobody in particular, with the key as a secret and the database by its name,
# it takes mails in, delivers them, reloads, and stops when told. Everything is private and on
# loopback; what was started is ended.
#
#   scripts/container.sh                       # dist/image/ (make dist), as localhost/postrider:try
#   scripts/container.sh --figures             # also start and memory, which takes a minute longer
#   scripts/container.sh target/debug/postrider-all   # another program, in a store that goes away
#                                              # again; if it is not static, this machine's libraries are lent
#   scripts/container.sh --can                 # only says whether containers can be run here, and why not
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'container: %s\n' "$*" >&2; exit 1; }
say() { printf 'container: %s\n' "$*"; }

program=dist/image/bin/postrider figures= can=
for argument in "$@"; do
    case $argument in
    --figures) figures=1 ;;
    --can) can=1 ;;
    -*) fail "unknown: $argument" ;;
    *) program=$argument ;;
    esac
done

folder=$(mktemp -d /tmp/postrider-image.XXXXXX)
chmod a+x "$folder"
name=postrider-try-$$
sink= owner=(env HOME="$folder") postgres= podman=()
ending() {
    local code=$?
    if [ "${#podman[@]}" -gt 0 ]; then
        "${podman[@]}" rm -f -t 5 "$name" "$name-api" >/dev/null 2>&1 || true
        "${podman[@]}" secret rm "$name.key" >/dev/null 2>&1 || true
    fi
    [ -z "$sink" ] || kill "$sink" 2>/dev/null || true
    if [ -d "$folder/data" ]; then
        (cd "$folder" && "${owner[@]}" "$postgres/pg_ctl" -D "$folder/data" -m immediate -s stop) 2>/dev/null || true
    fi
    # podman tidies up behind a container that has ended; the files in an ordinary user's store
    # belong to other users.
    local clean=(rm -rf "$folder") _
    [ "$(id -u)" -eq 0 ] || clean=(podman unshare "${clean[@]}")
    for _ in $(seq 50); do
        umount "$folder/store/overlay" 2>/dev/null || true
        if "${clean[@]}" 2>/dev/null || rm -rf "$folder" 2>/dev/null; then break; fi
        sleep 0.1
    done
    exit "$code"
}
trap ending EXIT

# --- podman: the system's, else the one that setup unpacked ---------------------------------------
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools")
if podman --version >/dev/null 2>&1; then
    podman=(podman)
    runtime=$(command -v runc || true)
elif [ "$(id -u)" -eq 0 ] && [ -x "$tools/usr/bin/podman" ] && [ -x "$tools/usr/sbin/runc" ]; then
    # What a package would have put below /etc and /usr.
    mkdir -p "$folder/home/.config/containers"
    echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$folder/home/.config/containers/policy.json"
    printf '[engine]\nconmon_path = ["%s"]\n[containers]\nseccomp_profile = "%s"\n' \
        "$tools/usr/bin/conmon" "$tools/usr/share/containers/seccomp.json" >"$folder/home/containers.conf"
    libraries=$(find "$tools/usr/lib" "$tools/lib" -maxdepth 1 -name '*-linux-gnu' | paste -sd :)
    podman=(env HOME="$folder/home" CONTAINERS_CONF="$folder/home/containers.conf" LD_LIBRARY_PATH="$libraries"
        "$tools/usr/bin/podman")
    runtime=$tools/usr/sbin/runc
else
    fail "there is no podman: apt-get install podman runc"
fi
if [ "$program" != dist/image/bin/postrider ] || [ -n "$can" ]; then
    mkdir "$folder/store"
    podman+=(--root "$folder/store" --runroot "$folder/run" --tmpdir "$folder/tmp")
fi
podman+=(--events-backend file)
# crun, the usual one, refuses where this runs inside of a container itself.
[ -z "$runtime" ] || podman+=(--runtime "$runtime")
# Named, because without the right to raise them the usual ones cannot be set.
limits=(--ulimit nofile=16384:16384 --ulimit nproc=4096:4096)
locked=("${limits[@]}" --network host --read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges)

# Nothing of ours: an empty root, and this machine's own programs in it.
mkdir "$folder/empty"
host=(-v /usr:/usr:ro -v /lib:/lib:ro)
[ ! -e /lib64 ] || host+=(-v /lib64:/lib64:ro)
if ! said=$("${podman[@]}" run --rm "${limits[@]}" --network host "${host[@]}" --rootfs "$folder/empty" /usr/bin/true 2>&1); then
    fail "podman cannot run a container here: $(tail -n 1 <<<"$said")"
fi
if [ -n "$can" ]; then exit 0; fi

# --- the image ------------------------------------------------------------------------------------
[ -x "$program" ] || fail "there is no $program: make dist"
postgres=${POSTRIDER_PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV | head -n 1)}
[ -x "$postgres/initdb" ] || fail "there is no Postgres: make setup"

image=localhost/postrider:try
context=$folder/context
programs=$context/dist/image/bin
mkdir -p "$programs"
cp Containerfile .containerignore "$context/"
strip -o "$programs/postrider" "$program" 2>/dev/null || cp "$program" "$programs/postrider"
for link in postriderd postrider-api; do ln -s postrider "$programs/$link"; done
cp /etc/ssl/certs/ca-certificates.crt "$context/dist/image/"
"${podman[@]}" build -q --build-arg BINARIES=prebuilt -t "$image" "$context" >/dev/null

lent=()
libraries=$(ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true)
for library in $libraries; do lent+=(-v "$library:$library:ro"); done
size=$("${podman[@]}" image inspect --format '{{.Size}}' "$image")
user=$("${podman[@]}" image inspect --format '{{.User}}' "$image")
say "image: $((size / 1000000)) MB, user $user$([ -z "$libraries" ] || echo ', program not static')"
[ "$user" = 65532:65532 ] || fail "it runs as $user"
[ -n "$libraries" ] || [ "$size" -lt 40000000 ] || fail "larger than 40 MB: $size bytes"
for shell in /bin/sh /bin/bash /bin/busybox /usr/bin/env; do
    ! "${podman[@]}" run --rm "${locked[@]}" "${lent[@]}" --entrypoint "$shell" "$image" -c true 2>/dev/null ||
        fail "there is $shell in the image"
done

# --- what it needs --------------------------------------------------------------------------------
port=$((20000 + RANDOM % 20000))
if [ "$(id -u)" -eq 0 ]; then
    install -d -o postgres "$folder/server"
    owner=(setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$folder/server")
else
    mkdir "$folder/server"
fi
(cd "$folder/server" &&
    "${owner[@]}" "$postgres/initdb" -D "$folder/server/data" -U postgres -A trust --locale=C.UTF-8 -E UTF8 >/dev/null &&
    "${owner[@]}" "$postgres/pg_ctl" -D "$folder/server/data" -w -s -l "$folder/server/log" \
        -o "-k $folder/server -p $port -c listen_addresses=127.0.0.1" start)
mkdir "$folder/etc"
cat >"$folder/etc/postrider.toml" <<TOML
[database]
url = "postgres://postgres@database.example:$port/postgres?sslmode=disable"
[telemetry]
listen = "127.0.0.1:$((port + 1))"
api_listen = "127.0.0.1:$((port + 3))"
[api]
listen = "127.0.0.1:$((port + 2))"
[[source]]
name = "default"
ehlo = "mail.example.com"
[[route]]
name = "sink"
kind = "relay"
host = "127.0.0.1"
port = $((port + 4))
tls = "none"
TOML
chmod -R a+rX "$folder/etc"
head -c 32 /dev/urandom | base64 >"$folder/key"
"${podman[@]}" secret create "$name.key" "$folder/key" >/dev/null
bare=(env -i POSTRIDER_KEY="$(cat "$folder/key")" POSTRIDER_CONFIG="$folder/etc/postrider.toml"
    POSTRIDER__DATABASE__URL="postgres://postgres@127.0.0.1:$port/postgres")
tool=("${bare[@]}" "$programs/postrider")
"${tool[@]}" migrate up >/dev/null
"${tool[@]}" tenant create shop >/dev/null
"${tool[@]}" domain add --tenant shop shop.example >/dev/null
token=$("${tool[@]}" key create --tenant shop --json | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p')
"${tool[@]}" sink --listen "127.0.0.1:$((port + 4))" --http "127.0.0.1:$((port + 5))" >/dev/null &
sink=$!

# --- the programs in the image --------------------------------------------------------------------
start() { # a container of this name, with these arguments
    "${podman[@]}" run -d --name "$1" "${locked[@]}" "${lent[@]}" --add-host database.example:127.0.0.1 \
        --secret "$name.key,target=/etc/credentials/postrider.key,uid=65532,mode=0400" -e CREDENTIALS_DIRECTORY=/etc/credentials \
        -v "$folder/etc/postrider.toml:/etc/postrider/postrider.toml:ro" "${@:2}" \
        --config /etc/postrider/postrider.toml >/dev/null
}
ready() { # at this port, within half a minute
    local _
    for _ in $(seq 600); do
        if curl -fs "http://127.0.0.1:$2/readyz" >/dev/null; then return; fi
        sleep 0.05
    done
    "${podman[@]}" logs "$1" >&2 || true
    fail "$1 is never ready"
}
status() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }

begun=$(date +%s%N)
start "$name" "$image"
ready "$name" $((port + 1))
say "ready after $((($(date +%s%N) - begun) / 1000000)) ms, with the start of the container"
start "$name-api" --entrypoint /usr/bin/postrider-api "$image"
ready "$name-api" $((port + 2))

for container in "$name" "$name-api"; do
    pid=$("${podman[@]}" inspect --format '{{.State.Pid}}' "$container")
    read -r uid _ <<<"$(status "$pid" Uid)"
    [ "$uid" -ne 0 ] || fail "$container runs as root"
    for set in CapInh CapPrm CapEff CapBnd CapAmb; do
        [ "$(status "$pid" "$set")" = 0000000000000000 ] || fail "$container has capabilities: $set $(status "$pid" "$set")"
    done
    [ "$(status "$pid" NoNewPrivs)" -eq 1 ] || fail "$container may gain privileges"
    # Devices and what shows the kernel have rules of their own.
    writable=$(awk '$6 ~ /^rw/ && $5 !~ /^\/(dev|proc|sys)(\/|$)/ { print $5 }' "/proc/$pid/mountinfo")
    [ -z "$writable" ] || fail "$container can write to $writable"
    say "$container: user $uid, no capabilities, read-only"
done

psql=("$postgres/psql" -h 127.0.0.1 -p "$port" -U postgres -qtA -c)
to=$(for n in $(seq 200); do printf '%s{"to":"r%s@example.org"}' "${sep-}" "$n"; sep=,; done)
curl -fsS "http://127.0.0.1:$((port + 2))/v1/messages" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
    -d "{\"from\":\"a@shop.example\",\"subject\":\"s\",\"text\":\"t\",\"stream\":\"bulk\",\"recipients\":[$to]}" >/dev/null
for _ in $(seq 600); do
    sent=$("${psql[@]}" "select count(*) from postrider.attempt where kind = 1")
    [ "$sent" -lt 200 ] || break
    sleep 0.1
done
[ "$sent" -eq 200 ] || { "${podman[@]}" logs "$name" >&2; fail "sent $sent of 200"; }
say "took in and sent $sent mails"

printf '[log]\nlevel = "debug"\n' >>"$folder/etc/postrider.toml"
"${podman[@]}" exec "$name" /usr/bin/postrider reload --config /etc/postrider/postrider.toml

memory() { # of a process: resident, and its share of what is shared, in MB
    awk '/^Rss:/ { rss = $2 } /^Pss:/ { pss = $2 } END { printf "%.1f MB resident (%.1f MB PSS)", rss / 1000, pss / 1000 }' "/proc/$1/smaps_rollup"
}
if [ -n "$figures" ]; then
    sleep 60
    for container in "$name" "$name-api"; do
        pid=$("${podman[@]}" inspect --format '{{.State.Pid}}' "$container")
        say "$container: idle for a minute after 200 mails: $(memory "$pid")"
    done
fi

for container in "$name-api" "$name"; do
    begun=$(date +%s%N)
    "${podman[@]}" stop -t 30 "$container" >/dev/null
    code=$("${podman[@]}" inspect --format '{{.State.ExitCode}}' "$container")
    [ "$code" -eq 0 ] || { "${podman[@]}" logs "$container" >&2; fail "$container ended with $code"; }
    say "$container: stopped when told, after $((($(date +%s%N) - begun) / 1000000)) ms"
done
left=$("${psql[@]}" "select count(*) from postrider.lease")
[ "$left" -eq 0 ] || fail "$left deliveries stayed in its hands"

# --- figures without a container around -------------------------------------------------------------
if [ -n "$figures" ]; then
    say "program: $(($(stat -c %s "$programs/postrider") / 1000)) kB, $(gzip -c "$programs/postrider" | wc -c | awk '{ print int($1 / 1000) }') kB compressed"
    for called in postriderd postrider-api; do
        "${bare[@]}" python3 - "$programs/$called" <<'PYTHON'
import os, socket, subprocess, sys, tempfile, time

def start(program):
    with tempfile.TemporaryDirectory() as folder:
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ear.bind(folder + "/notify")
        ear.settimeout(30)
        begun = time.monotonic()
        child = subprocess.Popen([program], env=os.environ | {"NOTIFY_SOCKET": folder + "/notify"},
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while b"READY=1" not in ear.recv(4096):
            pass
        took = time.monotonic() - begun
        child.terminate()
        child.wait()
        return took * 1000

took = sorted(start(sys.argv[1]) for _ in range(11))
print(f"container: {os.path.basename(sys.argv[1])}: start to READY=1: {took[5]:.0f} ms "
      f"(median of 11; {took[0]:.0f} to {took[-1]:.0f})")
PYTHON
    done
fi
