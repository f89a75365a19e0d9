#!/usr/bin/env bash
# Runs every fuzz target, or those that are named, for so many seconds each: `fuzz/run.sh 600 [TARGET…]`.
# A stable toolchain does; no sanitizer. What is found lies in fuzz/artifacts/TARGET, new inputs in
# fuzz/work/TARGET; those that matter go to fuzz/corpus/TARGET, which the tests replay.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?how many seconds for each target}
shift
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
fi
host=$(rustc -vV | sed -n 's/host: //p')
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
cargo build --release --locked --target "$host"
failed=()
for target in "${targets[@]}"; do
    printf '\n== %s\n' "$target"
    mkdir -p "work/$target" "artifacts/$target"
    # An input that takes longer than ten seconds, or a gigabyte, is a finding.
    "target/$host/release/$target" "work/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" \
        -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -verbosity=0 || failed+=("$target")
done
if [ ${#failed[@]} != 0 ]; then
    printf '\nfound something: %s\n' "${failed[*]}" >&2
    exit 1
fi
