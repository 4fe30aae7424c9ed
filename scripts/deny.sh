#!/usr/bin/env bash
# Licences, bans and sources of all crates (offline), and known vulnerabilities where the RustSec
# database can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: there is no cargo-deny: cargo install --locked cargo-deny" >&2
    exit 1
fi
cargo deny --offline --locked check --hide-inclusion-graph licenses bans sources
if timeout 60 cargo deny --locked check advisories; then
    echo "deny: advisories: none applies"
elif timeout 20 git ls-remote https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then
    echo "deny: advisories: see above" >&2
    exit 1
else
    echo "deny: advisories: SKIPPED, their database is out of reach" >&2
fi
