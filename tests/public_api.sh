#!/usr/bin/env bash
# Compares the public API of the libraries with the listings in tests/public_api/: a change of what users can name
# shows up as a change of those files, to be reviewed and to be told in CHANGELOG.md.
#
#   tests/public_api.sh             fails, with the difference, if the API is another
#   tests/public_api.sh --accept    writes the listings anew
#
# Installs cargo-public-api into target/tools, which takes some minutes once. Its version must know the form in which
# this compiler's rustdoc describes a crate; that form is unstable, hence RUSTC_BOOTSTRAP.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.52.0
tool=target/tools/bin/cargo-public-api
if ! "$tool" --version 2>/dev/null | grep -qF "$version"; then
    cargo install --quiet --locked --root target/tools "cargo-public-api@$version"
fi

# The manifest, the listing, and the features; without what the compiler derives by itself.
listing() {
    RUSTC_BOOTSTRAP=1 "$tool" --manifest-path "$1" --color never -sss --features "$2"
}

changed=0
check() {
    local golden=tests/public_api/$1.txt
    local now
    now=$(listing "$2" "$3")
    if [ "${accept:-}" ]; then
        printf '%s\n' "$now" >"$golden"
    elif ! diff -u "$golden" - <<<"$now"; then
        changed=1
    fi
}

accept=
if [ "${1:-}" = --accept ]; then
    accept=1
    mkdir -p tests/public_api
fi
check lookback Cargo.toml axum,read,symbols
check lookback-recorder recorder/Cargo.toml ""
check lookback-snapshot snapshot/Cargo.toml read,symbols
if [ "$changed" = 1 ]; then
    echo "The public API has changed. If that is meant: tests/public_api.sh --accept, and CHANGELOG.md." >&2
    exit 1
fi
