#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME (default 2m), one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
targets=0
while read -r file; do
	pkg=./$(dirname "${file#./}")
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		echo "== $pkg $name, ${FUZZTIME:=2m} =="
		$GO test "$pkg" -run '^$' -fuzz "^$name\$" -fuzztime "$FUZZTIME"
		targets=$((targets + 1))
	done
done < <(grep -rl --include='*_test.go' --exclude-dir=peers '^func Fuzz' .)
echo "$targets fuzz targets ran, nothing found"
