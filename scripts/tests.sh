#!/usr/bin/env bash
# Builds the tests and runs them, each file of tests/ and those in the library as a process of its
# own, several beside each other: most of their time they wait. Each has databases and ports of its
# own. Says one line for each, and all that a failed one said.
#
#   scripts/tests.sh [WHAT CARGO TEST TAKES, such as --features failpoints]
#   scripts/tests.sh build [THE SAME]          # only builds them, and scripts/tests.sh run only runs those
#   JOBS=1 scripts/tests.sh                    # one after the other
set -euo pipefail
cd "$(dirname "$0")/.."

# They measure rates or pages, and want the machine for themselves.
alone='^(adaptive|cluster_limits|daemon_limits|limit_exchange|plans)$'
jobs=${JOBS:-$(($(nproc) + 1))}

said=$(mktemp -d "${TMPDIR:-/tmp}/postrider-tests.XXXXXX")
trap 'rm -rf "$said"' EXIT

do=both
case ${1:-} in build | run) do=$1 && shift ;; esac
groups=${CARGO_TARGET_DIR:-target}/test-groups
started=$SECONDS
if [ "$do" != run ]; then
    cargo test --locked --no-run --message-format=json-render-diagnostics "$@" |
        sed -n '/"reason":"compiler-artifact"/ { /"profile":{[^}]*"test":true/ s/.*"executable":"\([^"]*\)".*/\1/p }' >"$said/programs"
    [ -s "$said/programs" ] || { echo "tests: cargo built no tests" >&2; exit 1; }
    # A line for each group: its name, its program, and which of its tests, all if none is named.
    while read -r program; do
        case ${program##*/} in
            promises-*)
                "$program" --list --format terse | sed -n 's/: test$//p' | awk -v program="$program" '
                    { name = $1; sub(/::.*/, "", name); tests[name] = tests[name] " " $1 }
                    END { for (name in tests) print name, program tests[name] }' | sort
                ;;
            *) printf '%s %s\n' "$(basename "${program%-*}")" "$program" ;;
        esac
    done <"$said/programs" >"$said/groups"
    mv "$said/groups" "$groups"
    printf 'tests: built in %d s\n' $((SECONDS - started))
fi
if [ "$do" = build ]; then exit 0; fi

# cargo sets this for a test; what else it says of itself is compiled in.
export CARGO_MANIFEST_DIR=$PWD

one() { # group: what it said goes to a file, its line to standard output
    local name program started=$SECONDS code=0 result
    local -a tests
    read -r name program tests <<<"$1"
    read -ra tests <<<"$tests"
    [ "${#tests[@]}" -eq 0 ] || tests=(--exact "${tests[@]}")
    "$program" "${tests[@]}" >"$said/$name.log" 2>&1 </dev/null || code=$?
    result=$(sed -n 's/^test result: \([^;]*;[^;]*;[^;]*\).*/\1/p' "$said/$name.log" | tail -n 1)
    # What a test left out is said by the test itself.
    grep -h 'SKIPPED' "$said/$name.log" || true
    printf '%-26s %4d s  %s\n' "$name" $((SECONDS - started)) "${result:-no result}"
    [ "$code" -eq 0 ] || { printf '%s\n' "$name" >>"$said/failed"; sed 's/^/    /' "$said/$name.log"; }
}
export said
export -f one

crowd=() quiet=()
while read -r group; do
    if [[ ${group%% *} =~ $alone ]]; then quiet+=("$group"); else crowd+=("$group"); fi
done <"$groups"
printf '%s\0' "${crowd[@]}" | xargs -0 -r -n 1 -P "$jobs" bash -c 'one "$0"'
for group in "${quiet[@]}"; do one "$group"; done

# What failed may only have been starved, by the others or by the machine's other guests. It gets
# one more try with the machine to itself, and is named.
if [ -s "$said/failed" ]; then
    mapfile -t failed < <(sort -u "$said/failed")
    rm "$said/failed"
    for group in "${crowd[@]}" "${quiet[@]}"; do
        [[ " ${failed[*]} " != *" ${group%% *} "* ]] || { echo "tests: once more, alone:" && one "$group"; }
    done
    second=", but at the second try: ${failed[*]}"
fi
if [ -s "$said/failed" ]; then
    printf '\ntests: FAILED: %s\n' "$(paste -sd ' ' "$said/failed")" >&2
    exit 1
fi
printf 'tests: %d groups, all passed%s, %d s\n' "$(wc -l <"$groups")" "${second:-}" $((SECONDS - started))
