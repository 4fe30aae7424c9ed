#!/bin/sh
# The statically linked release programs of this machine's architecture, into the folder $1: one
# file, and two links to it by whose names it is another program (docs/container.md).
# Against musl where the compiler has that target, else against glibc.
#
# The same sources, lock file, compiler and C toolchain give the same bytes: paths are mapped away,
# and nothing asks for the time (SOURCE_DATE_EPOCH).
set -eu
cd "$(dirname "$0")/.."

out=${1:?the folder for the programs}
profile=${PROFILE:-release}
cpu=$(uname -m)
target=${TARGET:-$cpu-unknown-linux-musl}
flags=
if [ ! -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
    target=$cpu-unknown-linux-gnu
    flags="-C target-feature=+crt-static"
fi
folder=${CARGO_TARGET_DIR:-target}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"
export RUSTFLAGS="$flags --remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
# The list of crates goes into the program where the tool is there (cargo install cargo-auditable).
build=build
if cargo auditable --version >/dev/null 2>&1; then build="auditable build"; fi
# shellcheck disable=SC2086 # two words
cargo $build --locked --profile "$profile" --target "$target" --features one-file --bin postrider-all
mkdir -p "$out"
built=$folder/$target/$profile/postrider-all
# The build's id is made of debug information too, which is not the same each time; it goes with it.
strip -R .note.gnu.build-id -o "$out/postrider" "$built" 2>/dev/null || cp "$built" "$out/postrider"
for name in postriderd postrider-api; do ln -sf postrider "$out/$name"; done
echo "static-build: $target, $profile: $(stat -c %s "$out/postrider") bytes"
