#!/usr/bin/env bash
# A release below dist/: an archive with programs, units, configuration and documentation, its
# bill of materials, checksums of all; and dist/image/, from which the container image is built
# without a network. PROFILE=quick builds faster and slower programs.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=postrider-$version-$(uname -m)-linux
stage=dist/$name
rm -rf dist && mkdir -p "$stage/bin" dist/image

scripts/static-build.sh "$stage/bin"
cp -a "$stage/bin" dist/image/
cp /etc/ssl/certs/ca-certificates.crt dist/image/
cp -r README.md LICENSE-* config docs migrations systemd "$stage/"
if sbom=$(scripts/sbom.sh); then cp "$sbom" "$stage/" && cp "$sbom" "dist/$name.cdx.json"; fi

# The same content gives the same archive.
tar --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner --mode=go-w \
    -C dist -cf - "$name" | gzip -n -9 >"dist/$name.tar.gz"
rm -rf "$stage"
(cd dist && sha256sum -- *.gz *.json 2>/dev/null >SHA256SUMS || sha256sum -- *.gz >SHA256SUMS)
ls -l dist
cat dist/SHA256SUMS
