#!/usr/bin/env bash
# The tests in which threads meet, with windows widened (`fault_injection`), under AddressSanitizer and
# ThreadSanitizer. `tests/sanitize.sh address`, `thread`, or both if nothing is said; `LOOKBACK_SANITIZE=all` runs
# more tests. docs/sanitizers.md says what they see, and what not.
set -euo pipefail
cd "$(dirname "$0")/.."
kinds=("${@:-address}")
[ $# -gt 0 ] || kinds=(address thread)
host=$(rustc -vV | sed -n 's/^host: //p')
case $host in x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu) ;; *)
    echo "no sanitizers for $host"
    exit 0
    ;;
esac

tests=(stress spans threads)
if [ "${LOOKBACK_SANITIZE:-}" = all ]; then
    tests+=(held_up hostile_writers panics saving wakers tasks regions)
fi
# Bounds of memory and of bytes a thread hold for the recorder alone: a sanitizer takes much more.
skipped=(--skip ten_thousand_short_lived_threads_reuse_a_few_slots_and_blocks)

for kind in "${kinds[@]}"; do
    # The standard library comes compiled without it; for `thread` the compiler wants to hear that we know.
    flags="-Zsanitizer=$kind"
    left_out=("${skipped[@]}")
    if [ "$kind" = thread ]; then
        flags+=" -Cunsafe-allow-abi-mismatch=sanitizer"
        # Instrumented code that runs when the sanitizer has already put down its own state of the thread.
        left_out+=(--skip threads_whose_first_event_comes_at_their_very_end_leave_no_slot_behind)
    fi
    # What is kept for ever is kept on purpose: leaks are not what this is about.
    export ASAN_OPTIONS="detect_leaks=0 detect_stack_use_after_return=1"
    export TSAN_OPTIONS="suppressions=$PWD/tests/sanitize/tsan.supp history_size=4 halt_on_error=1"
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags"
    arguments=()
    for test in "${tests[@]}"; do arguments+=(--test "$test"); done
    echo "== $kind: ${tests[*]}"
    .ci/test --locked --target "$host" --target-dir "target/sanitize-$kind" -p lookback \
        --features fault_injection "${arguments[@]}" -- --test-threads=1 "${left_out[@]}"
done
