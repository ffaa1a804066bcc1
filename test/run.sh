#!/usr/bin/env bash
# Vet, then every test once at full size, then once more under the race detector
# with -short. Skipped tests are named with their reason; the last lines say what
# ran against what. Needs Go; the race detector needs a C compiler besides.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}

[ -n "${FRESHET_REQUIRE+set}" ] || test/prepare.sh >/dev/null

$GO vet ./...

echo "== every test, once =="
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT
$GO test -timeout 20m -v ./... 2>&1 | awk -v summary="$summary" -f test/brief.awk

if [ "$($GO env CGO_ENABLED)" = 1 ] && command -v "$($GO env CC)" >/dev/null; then
	echo "== again under the race detector, -short =="
	$GO test -timeout 20m -race -short ./...
else
	echo "== SKIP: no race detector: it needs a C compiler, and none is here ==" >&2
fi

echo "== what ran against what =="
cat "$summary"
