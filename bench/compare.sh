#!/usr/bin/env bash
# postrider's queue beside those of other crates, in a project of its own. Arguments: --help tells.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/compare
# Not --locked: the lock file follows the product's dependencies; whom we compare with is pinned in the manifest.
cargo build --profile quick --manifest-path bench/compare/Cargo.toml
exec "$CARGO_TARGET_DIR/quick/postrider-compare" "$@"
