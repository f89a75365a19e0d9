#!/usr/bin/env bash
# Builds the workspace for 64-bit ARM and runs its tests under an emulator, in a Debian of its own: `tests/arm64.sh
# [DIRECTORY]`. Needs root, debootstrap, some 3 GB and the network; the Debian is made once and kept in
# DIRECTORY (target/arm64). Takes half an hour.
#
# Debian's unstable suite has the compiler and the standard library for arm64, and a cross compiler for C. What
# qemu's user emulation cannot do (membarrier, pidfd, /proc of another architecture, fatal signals as the kernel
# sends them) is not tested here. LOOKBACK_ARM_TESTS names other tests than those below.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(realpath -m "${1:-target/arm64}")
suite=unstable
if [ ! -e "$root/ready" ]; then
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" http://deb.debian.org/debian
    chroot "$root" dpkg --add-architecture arm64
    # A mirror may be some weeks behind.
    chroot "$root" apt-get -o Acquire::Check-Valid-Until=false update -qq
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq rustc cargo libstd-rust-dev:arm64 \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
    touch "$root/ready"
fi
mkdir -p "$root/src" "$root/cargo" "$root/build"
# A copy, not a mount: nothing in there may reach what lies outside.
tar -C . --exclude=./target --exclude=./.git -cf - . | tar -C "$root/src" -xf -
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT
# The network's names and certificates are those that this machine trusts.
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
in_there() {
    chroot "$root" env HOME=/root CARGO_HOME=/cargo CARGO_TARGET_DIR=/build \
        CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
        sh -c "cd /src && $1"
}
in_there "cargo build --workspace --all-targets --locked"
in_there "cargo test --locked -p lookback-snapshot --test specification --test damage --test reading"
# Most tests of the library start themselves again, which needs an emulator that the kernel knows of; so here each runs
# as the process that it would have started.
failed=0
for test in ${LOOKBACK_ARM_TESTS:-macros fields regions tasks polls spans growth listing}; do
    binary=$(in_there "cargo test --locked -p lookback --test $test --no-run 2>&1" |
        sed -n 's/.*Executable.*(\(.*\))$/\1/p')
    run="qemu-aarch64 -L /usr/aarch64-linux-gnu $binary"
    for name in $(in_there "$run --list" | sed -n 's/: test$//p'); do
        if in_there "LOOKBACK_TEST_ALONE=$name timeout 600 $run $name --exact --test-threads=1" >"$root/last" 2>&1
        then
            echo "$test $name: ok"
        else
            echo "$test $name: FAILED"
            tail -n 5 "$root/last"
            failed=1
        fi
    done
done
exit $failed
