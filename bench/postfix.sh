#!/usr/bin/env bash
# Fetches Postfix where apt-get can, unpacked into target/bench/postfix and not installed.
# Fails where it cannot.
set -euo pipefail
cd "$(dirname "$0")/.."

postfix=target/bench/postfix
[ ! -x "$postfix/usr/sbin/smtp-sink" ] || exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 1
mkdir -p target/bench/download
(cd target/bench/download && apt-get download postfix) >/dev/null 2>&1 &&
    dpkg-deb -x target/bench/download/postfix_*.deb "$postfix" || true
rm -rf target/bench/download
[ -x "$postfix/usr/sbin/smtp-sink" ]
