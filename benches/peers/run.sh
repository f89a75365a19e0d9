#!/usr/bin/env bash
# Builds the programs twice, for stable Tokio and with `--cfg tokio_unstable`, and runs them.
#
#   ./run.sh [--quick] [--rounds N]
#
# FEATURES names the Cargo features, `FEATURES=lookback` for the candidates of lookback itself.
set -euo pipefail
cd "$(dirname "$0")"
features=(--features "${FEATURES:-}")
cargo build --release "${features[@]}"
RUSTFLAGS="--cfg tokio_unstable" \
    cargo build --release --features "taskdump ${FEATURES:-}" --target-dir target/unstable \
    --bin tasks --bin echo --bin web
RUSTFLAGS="-C force-frame-pointers=yes" \
    cargo build --release --features heap --target-dir target/frame-pointers --bin allocators
target/release/tasks --unstable target/unstable/release "$@"
target/release/spans "$@"
target/release/echo --unstable target/unstable/release "$@"
target/release/web --unstable target/unstable/release "$@"
target/frame-pointers/release/allocators "$@"
