#!/usr/bin/env bash
# The bill of materials (CycloneDX, JSON) of what is linked in, without tests' crates. Says its path.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo cyclonedx --version >/dev/null 2>&1; then
    echo "sbom: there is no cargo-cyclonedx: cargo install --locked cargo-cyclonedx" >&2
    exit 1
fi
cargo cyclonedx --format json --no-build-deps --all-features --override-filename sbom >&2
mkdir -p target
mv sbom.json target/postrider.cdx.json
echo target/postrider.cdx.json
