#!/usr/bin/env bash
# Everything that must hold before a change is taken. Ends at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
# A clone that is built once gains nothing from it, and it takes as much room as the programs.
if [ -n "${CI:-}" ]; then export CARGO_INCREMENTAL=0; fi
# Tests make processes die at certain points (src/domain/failpoint.rs); the image has one program.
features=(--features failpoints,one-file)

step() {
    local name=$1 started=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    printf '== %s: %d s\n' "$name" $((SECONDS - started))
}

# A step beside others: `behind NAME COMMAND...`, and later `met NAME`, which says what it said.
declare -A beside
behind() {
    local name=$1
    shift
    mkdir -p "$target"
    "$@" >"$target/$name.log" 2>&1 &
    beside[$name]=$!
}
met() {
    local code=0
    wait "${beside[$1]}" || code=$?
    unset "beside[$1]"
    cat "$target/$1.log"
    return "$code"
}

skip() { printf '\n== %s: SKIPPED, %s\n' "$1" "$2"; }

ending() {
    local code=$?
    [ "${#beside[@]}" -eq 0 ] || kill "${beside[@]}" 2>/dev/null || true
    scripts/stop.sh || true
    if [ "$code" -eq 0 ]; then
        printf '\nall passed in %d s\n' "$SECONDS"
    else
        printf '\nFAILED (see above)\n' >&2
    fi
}
trap ending EXIT

shipped_configurations() {
    local file
    for file in config/*.toml; do
        [ -e "$file" ] || continue
        # The rules about replies are part of every check.
        [ "$file" != config/replies.toml ] || continue
        # The key is not shipped, and a configuration may name its file.
        POSTRIDER_KEY=$(head -c 32 /dev/zero | base64) "$target/debug/postrider" config check "$file"
    done
}

units() {
    # Unknown keys only warn, so any word of complaint is a failure.
    local said unit
    said=$(systemd-analyze verify --man=no systemd/*.service systemd/*.socket systemd/*.slice systemd/*.timer 2>&1 |
        grep -v 'is not executable' || true)
    [ -z "$said" ] || { printf '%s\n' "$said" >&2; return 1; }
    # The exposure in tenths.
    for unit in systemd/*.service; do
        systemd-analyze security --offline=true --threshold=15 --no-pager "$unit" | tail -n 1
        systemd-analyze security --offline=true --threshold=15 --no-pager "$unit" >/dev/null
    done
    if systemd-sysusers --help 2>/dev/null | grep -q dry-run; then
        systemd-sysusers --dry-run "$PWD/systemd/postrider.sysusers.conf" >/dev/null 2>&1
    fi
}

promtool() {
    local program=$target/tools/usr/bin/promtool
    [ -x "$program" ] || program=$(command -v promtool)
    "$program" "$@"
}

rules() {
    promtool check config config/prometheus/prometheus.yml
    promtool test rules config/prometheus/tests/*.yml
}

# What needs nothing but the programs and the libraries that are built.
papers() {
    step "documentation" env RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --no-deps --lib "${features[@]}" --document-private-items
    step "shipped configurations" shipped_configurations
    if ! compgen -G 'systemd/*.service' >/dev/null; then
        skip "systemd units" "there are none"
    elif command -v systemd-analyze >/dev/null; then
        step "systemd units" units
    else
        skip "systemd units" "there is no systemd-analyze"
    fi
    if [ -x "$target/tools/usr/bin/promtool" ] || command -v promtool >/dev/null; then
        step "rules of Prometheus" rules
    else
        skip "rules of Prometheus" "there is no promtool"
    fi
}

step "what is needed to build" scripts/setup.sh run
# The rest of it comes over the network, and the lints want the processor.
behind tools step "what the tests need" scripts/setup.sh
step "format" cargo fmt --check
step "lint" cargo clippy --locked --all-targets "${features[@]}" -- -D warnings
step "build" cargo build --locked --bins "${features[@]}"
step "build of the tests" scripts/tests.sh build "${features[@]}"
met tools
# Tests wait most of their time; the rest of it is used.
behind papers papers
step "tests" scripts/tests.sh run
met papers
if said=$(scripts/container.sh --can 2>&1); then
    step "container image" scripts/container.sh "$target/debug/postrider-all"
else
    skip "container image" "${said##*container: }"
fi
step "restore drill" scripts/restore-drill.sh "$target/debug"
step "faults, a few cases" cargo bench --locked --profile dev "${features[@]}" --bench faults -- --short
if [ -x bench/smoke.sh ]; then
    step "bench, a short one" bench/smoke.sh "${features[@]}"
fi
