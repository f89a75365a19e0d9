#!/usr/bin/env bash
# Proves that cli/src/report/page.html is what its source gives, checks and lints the source, and tests pages in Chromium.
# Needs Node, a network for npm, and Chromium (Debian: `apt-get install chromium`; or its path in CHROMIUM). Pictures of what
# the tests saw are in target/report.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd .. && pwd)
out=$root/target/report
mkdir -p "$out"

npm ci --silent --no-audit --no-fund
npm run --silent check
npm run --silent lint
node build.mjs "$out/page.html"
if ! cmp "$out/page.html" "$root/cli/src/report/page.html"; then
    echo "cli/src/report/page.html is not what its source gives: run \`npm run build\` in report/, and commit it" >&2
    exit 1
fi

cd "$root"
cargo build --locked -p lookback-cli
cargo test --locked -q -p lookback-cli --test report -- --ignored
lookback=$root/target/debug/lookback
rm -rf "$out/demo"
for _ in 1 2 3; do
    # On a very slow machine the incident may not happen.
    "$lookback" demo --seconds 3 --out "$out/demo" >/dev/null && break
done
"$lookback" report "$out/demo/incident.lbk" -o "$out/demo.html"
"$lookback" report "$out/million.lbk" -o "$out/million.html"
"$lookback" report "$out/hostile.lbk" -o "$out/hostile.html"
"$lookback" report "$out/far.lbk" -o "$out/far.html"
"$lookback" report "$out/large.lbk" -o "$out/large.html"
node report/tests/run.mjs "$out/demo.html" "$out/million.html" "$out/hostile.html" "$out/far.html" "$out/large.html" "$out"
