#!/usr/bin/env bash
# Fetches Postfix's smtp-sink and smtp-source where apt-get can, unpacked and not
# installed, and runs the benchmark. Arguments: --help tells.
set -euo pipefail
cd "$(dirname "$0")/.."

postfix=target/bench/postfix
if [ ! -x "$postfix/usr/sbin/smtp-sink" ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    mkdir -p target/bench/download
    if (cd target/bench/download && apt-get download postfix) >/dev/null 2>&1; then
        dpkg-deb -x target/bench/download/postfix_*.deb "$postfix"
    fi
    rm -rf target/bench/download
fi
if [ -x "$postfix/usr/sbin/smtp-sink" ]; then
    set -- --postfix "$postfix" "$@"
else
    echo "bench: no Postfix tools (apt-get download postfix failed): built-in sink, no raw limit" >&2
    set -- --sink builtin "$@"
fi
exec cargo bench --locked --bench delivery -- "$@"
