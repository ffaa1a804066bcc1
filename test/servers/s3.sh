#!/usr/bin/env bash
# An S3 server over a folder: Versity's gateway (Apache-2.0), with the user
# "freshet", the password "freshet-test" and the bucket "freshet". "s3.sh install"
# builds it with Go, at the version below, into a cache folder (FRESHET_S3 names
# another program); that takes a minute or two, once.
set -u
version=v1.8.0
program=${FRESHET_S3:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/versitygw-$version}

if [ "${1:-}" = install ]; then
	[ -x "$program" ] && exit 0
	go=${GO:-go}
	command -v "$go" >/dev/null || { echo "no Go here to build versitygw with" >&2; exit 1; }
	into=$(mktemp -d "${TMPDIR:-/tmp}/freshet-build.XXXXXX")
	trap 'rm -rf "$into"' EXIT
	# Outside of any module, so that the project's go.mod has no part in it.
	(cd "$into" && GOFLAGS='' GOWORK=off CGO_ENABLED=0 GOBIN="$into" "$go" install "github.com/versity/versitygw/cmd/versitygw@$version") || exit 1
	mkdir -p "$(dirname "$program")" && mv "$into/versitygw" "$program"
	exit
fi

[ -x "$program" ] || { echo "versitygw $version is not built: run test/servers/s3.sh install" >&2; exit 3; }
[ "${1:-}" = present ] && exit
. "$(dirname "$0")/lib.sh"

port=$(free_port)
mkdir -p "$dir/data/freshet" "$dir/meta"
launch() {
	ROOT_ACCESS_KEY=freshet ROOT_SECRET_KEY=freshet-test "$program" --port "127.0.0.1:$port" --quiet --keep-alive \
		posix --sidecar "$dir/meta" "$dir/data" >"$dir/log" 2>&1 </dev/null &
	server=$!
}
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port"); }
launch
serve "127.0.0.1:$port" answers
