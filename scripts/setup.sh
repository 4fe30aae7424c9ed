#!/usr/bin/env bash
# Finds what building and running from this folder needs, and installs from the
# distribution what is missing. Needs no network when everything is there.
#
#   scripts/setup.sh        # all of it, also for tests and measurements
#   scripts/setup.sh run    # what `make run` needs
#
# Postgres is wanted for its server programs only: no system cluster is made,
# none is started, and one that exists is left alone.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root and there is no sudo; run as root: $*"
    fi
}

install_packages() {
    command -v apt-get >/dev/null || fail "there is no apt-get here; install by your own means: $*"
    say "installing $* (apt-get)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" && return
    say "once more with fresh package lists"
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

postgres_programs() {
    local folder
    for folder in ${POSTRIDER_PG_BIN:-} $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) \
        "$(dirname "$(command -v initdb || echo /nowhere/initdb)")"; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && [ -x "$folder/postgres" ]; then
            printf '%s' "$folder"
            return
        fi
    done
    return 1
}

# Debian's package makes and starts a cluster unless told not to. The note that
# tells it is taken away again, so that a later wish of yours is not in its way.
install_postgres() {
    local folder=/etc/postgresql-common/createcluster.d
    as_root mkdir -p "$folder"
    echo 'create_main_cluster = false' | as_root tee "$folder/postrider.conf" >/dev/null
    local code=0
    # In two steps: the first brings the configuration that reads the note.
    install_packages postgresql-common && install_packages postgresql || code=$?
    as_root rm -f "$folder/postrider.conf"
    return "$code"
}

command -v cargo >/dev/null ||
    fail "there is no cargo: install Rust 1.95 or newer from https://rustup.rs"

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || missing+=(ca-certificates)
[ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"

if ! programs=$(postgres_programs); then
    install_postgres
    programs=$(postgres_programs) || fail "installed Postgres, but found no initdb, pg_ctl and postgres"
fi
ready() { say "$(cargo --version), $("$programs/postgres" --version), $(cc --version | head -n 1)"; }
if [ "${1:-}" = run ]; then
    ready
    exit
fi
# For tests, the proof under faults, and the checks of rules and dashboards: unpacked and not
# installed, since a package would start a service. What needs them says so.
tools=${CARGO_TARGET_DIR:-target}/tools
packages=(libfaketime prometheus
    postfix exim4-daemon-light exim4-base libidn12 libgnutls-dane0 libunbound8 libnss-wrapper
    python3-aiosmtpd python3-attr python3-public
    python3-dkim python3-nacl python3-cffi-backend libsodium23
    # A name server that signs and one that validates, with their libraries.
    knot unbound libdnssec9 libknot13 libzscanner4 libcap-ng0 libedit2 libbsd0 libgnutls30 liblmdb0 liburcu8
    libxdp1 libbpf1 libelf1 libfstrm0 libevent-2.1-7 libnghttp2-14 libprotobuf-c1 libpython3.11 libssl3
    # Runs the container image as root, where no podman is installed.
    podman conmon runc golang-github-containers-common libgpgme11 libassuan0 libsubid4 libdevmapper1.02.1
    libseccomp2 libglib2.0-0)
if [ "$(cat "$tools/tried" 2>/dev/null)" != "${packages[*]}" ] &&
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    say "unpacking what tests and measurements need into $tools (apt-get download)"
    mkdir -p "$tools/download"
    for package in "${packages[@]}"; do
        (cd "$tools/download" && apt-get download "$package") >/dev/null 2>&1 || true
    done
    for package in "$tools"/download/*.deb; do
        [ ! -e "$package" ] || dpkg-deb -x "$package" "$tools"
    done
    rm -rf "$tools/download"
    echo "${packages[*]}" >"$tools/tried"
fi
# Debian 12 has a PgBouncer that hands no prepared statement on. The next release has a newer one;
# it is unpacked with that release's libraries, and nothing of it is installed.
pooler=$tools/pooler
newer_pooler() {
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg root library loader
    mkdir -p "$pooler"/{root,lists/partial,cache/archives/partial}
    root=$(cd "$pooler" && pwd)
    echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" >"$root/sources.list"
    cat >"$root/apt.conf" <<EOF
Dir::Etc::SourceList "$root/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$root/lists";
Dir::State::status "/dev/null";
Dir::Cache "$root/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
EOF
    (export APT_CONFIG=$root/apt.conf && cd "$root" && apt-get update && apt-get download \
        pgbouncer libc6 libcares2 libevent-2.1-7t64 libpam0g libssl3t64 libsystemd0 \
        libcap2 libaudit1 libcap-ng0) >/dev/null 2>&1 || return
    for package in "$root"/*.deb; do dpkg-deb -x "$package" "$root/root"; done
    rm -rf "$root"/{lists,cache,*.deb}
    for loader in "$root"/root/usr/lib/*/ld-linux-*.so.* "$root"/root/usr/lib/ld-linux-*.so.*; do
        [ -x "$loader" ] || continue
        library=$(dirname "$(find "$root/root" -name libc.so.6 | head -n 1)")
        printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
            "$loader" "$library" "$root/root/usr/sbin/pgbouncer" >"$root/pgbouncer"
        chmod +x "$root/pgbouncer"
        break
    done
    [ -x "$root/pgbouncer" ]
}
if [ ! -x "$pooler/pgbouncer" ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    say "unpacking a newer PgBouncer into $pooler (apt-get download)"
    newer_pooler || say "PgBouncer 1.21 or newer could not be had; tests/pgbouncer.rs needs it"
fi
# What holds the API against its document (tests/openapi_fuzzed.rs): Python's packages, all of
# them pinned, in a folder of their own. The test says so when it is not there.
checker=$tools/schemathesis pins=$(dirname "$0")/schemathesis.txt
if ! cmp -s "$pins" "$checker/installed.txt" && command -v python3 >/dev/null; then
    say "installing schemathesis (PyPI) into $checker"
    python3 -c 'import ensurepip' 2>/dev/null || (install_packages python3-venv) || true
    for _ in 1 2 3; do
        rm -rf "$checker"
        if python3 -m venv "$checker" 2>/dev/null &&
            "$checker/bin/pip" install --quiet --no-input --disable-pip-version-check -r "$pins" 2>/dev/null; then
            cp "$pins" "$checker/installed.txt"
            break
        fi
    done
    [ -e "$checker/installed.txt" ] || say "schemathesis could not be installed; tests/openapi_fuzzed.rs needs it"
fi
ready
