#!/usr/bin/env bash
# What docs/dependencies.md says a service carries is what it carries.
set -euo pipefail
cd "$(dirname "$0")/.."
actual=$(cargo tree -e normal -p lookback-recorder --locked --charset ascii | sed 's/ (\/[^)]*)//')
listed=$(sed -n '/^```text$/,/^```$/p' docs/dependencies.md | sed '1d;$d')
if [ "$actual" != "$listed" ]; then
    echo "docs/dependencies.md lists other dependencies than 'cargo tree -e normal -p lookback-recorder':"
    diff <(echo "$listed") <(echo "$actual") || true
    exit 1
fi
echo "as listed"
