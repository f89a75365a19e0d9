#!/usr/bin/env bash
# Builds and runs every recipe of docs/recipes.md. Each checks its own snapshot, and fails if it is not
# what the recipe promises. Needs Python 3 for the last one.
set -euo pipefail
cd "$(dirname "$0")"

cargo build --locked --workspace
target=${CARGO_TARGET_DIR:-target}/debug
for recipe in actix tonic threads smol client batch; do
    timeout 60 "$target/$recipe"
done

# And the recorder's allocator around jemalloc, which takes a while to compile.
../.ci/test --locked --test heap_jemalloc

module=$(mktemp -d)
cp "$target/librecorded.so" "$module/recorded.so"
PYTHONPATH=$module timeout 60 python3 python/use.py
rm -r "$module"
