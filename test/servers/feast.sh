#!/usr/bin/env bash
# A Feast feature server over SQLite with the features of feast/repo.py, from a
# virtual environment that "feast.sh install" makes, at the version below
# (FRESHET_FEAST names another environment).
set -u
version=0.67.0
here=$(cd "$(dirname "$0")" && pwd)
venv=${FRESHET_FEAST:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/feast}
if [ "${1:-}" = install ]; then
	[ -x "$venv/bin/feast" ] && exit
	[ -z "${FRESHET_FEAST:-}" ] || { echo "$FRESHET_FEAST has no Feast" >&2; exit 1; }
	python3 -m venv "$venv" && timeout 240 "$venv/bin/python" -m pip install -q --disable-pip-version-check "feast==$version" && [ -x "$venv/bin/feast" ] && exit
	rm -rf "$venv"
	exit 1
fi
[ -x "$venv/bin/feast" ] || { echo "Feast is not installed in $venv" >&2; exit 3; }
[ "${1:-}" = present ] && exit
. "$here/lib.sh"

port=$(free_port)
cp "$here/feast/feature_store.yaml" "$here/feast/repo.py" "$dir"
cd "$dir" || exit 1
export FEAST_USAGE=False
"$venv/bin/python" repo.py "$port" >"$dir/log" 2>&1 </dev/null &
server=$!
# In bash, because curl need not be here.
answers() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
	printf 'GET /health HTTP/1.0\r\n\r\n' >&3
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}
serve "127.0.0.1:$port" answers
