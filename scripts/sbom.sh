#!/usr/bin/env bash
# The bill of materials (CycloneDX 1.5, JSON) of what is linked in, without what only builds or
# tests. Says its path. TARGET names another machine than this one.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'sbom: %s\n' "$*" >&2; exit 1; }
cargo cyclonedx --version >/dev/null 2>&1 || fail "there is no cargo-cyclonedx: cargo install --locked cargo-cyclonedx"
command -v python3 >/dev/null || fail "there is no python3"

target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
# The same tree gives the same bytes: no time of now, no random number.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"
cargo cyclonedx --format json --spec-version 1.5 --target "$target" --no-build-deps --override-filename sbom >&2

mkdir -p target
# It also names crates that a feature could bring in and none does; cargo itself tells which are used.
cargo tree --locked --edges normal --prefix none --target "$target" --format '{p}' |
    python3 -c '
import json, os, sys

used = {tuple(line.split()[:2]) for line in sys.stdin if line.strip()}
with open("sbom.json") as file:
    # Where it was built is no part of it.
    bill = json.loads(file.read().replace("path+file://" + os.getcwd(), "path+file:///src"))
known = {(part["name"], "v" + part["version"]) for part in bill["components"]}
own = bill["metadata"]["component"]
missing = used - known - {(own["name"], "v" + own["version"])}
if missing:
    sys.exit(f"sbom: not in it: {sorted(missing)}")
bill["components"] = [part for part in bill["components"] if (part["name"], "v" + part["version"]) in used]
kept = {part["bom-ref"] for part in bill["components"]} | {own["bom-ref"]}
bill["dependencies"] = [
    {**entry, "dependsOn": [ref for ref in entry.get("dependsOn", []) if ref in kept]}
    for entry in bill["dependencies"]
    if entry["ref"] in kept
]
with open("target/postrider.cdx.json", "w") as file:
    json.dump(bill, file, indent=1)
count = len(bill["components"])
print(f"sbom: {count} crates", file=sys.stderr)
'
rm sbom.json
echo target/postrider.cdx.json
