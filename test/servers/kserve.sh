#!/usr/bin/env bash
# A server of the kserve package with the model of kserve/server.py, by the Open
# Inference Protocol over gRPC and HTTP, raw contents included. It prints
#
#	ready GRPC_HOST:PORT http=HTTP_HOST:PORT
#
# "kserve.sh install" makes its virtual environment, at the versions below
# (FRESHET_KSERVE names another environment).
set -u
here=$(cd "$(dirname "$0")" && pwd)
venv=${FRESHET_KSERVE:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/kserve}
packages=(kserve==0.16.0 numpy==2.4.6)
if [ "${1:-}" = install ]; then
	[ -e "$venv/freshet-ready" ] && exit
	[ -n "${FRESHET_HEAVY:-}" ] || { echo "MLServer speaks the same protocol: FRESHET_HEAVY=1 test/servers/kserve.sh install" >&2; exit 1; }
	[ -z "${FRESHET_KSERVE:-}" ] || { echo "$FRESHET_KSERVE has no kserve" >&2; exit 1; }
	python3 -m venv "$venv" && timeout 280 "$venv/bin/python" -m pip install -q --disable-pip-version-check "${packages[@]}" &&
		"$venv/bin/python" -c 'import kserve' && touch "$venv/freshet-ready" && exit
	rm -rf "$venv"
	exit 1
fi
[ -e "$venv/freshet-ready" ] || { [ -n "${FRESHET_KSERVE:-}" ] && [ -x "$venv/bin/python" ]; } ||
	{ echo "kserve is not installed in $venv" >&2; exit 3; }
[ "${1:-}" = present ] && exit
. "$here/lib.sh"

http=$(free_port)
grpc=$(free_port)
export PYTHONDONTWRITEBYTECODE=1
cd "$dir" || exit 1
launch() {
	"$venv/bin/python" "$here/kserve/server.py" "$http" "$grpc" >>"$dir/log" 2>&1 </dev/null &
	server=$!
}
launch
# In bash, because curl need not be here.
answers() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$grpc" || return 1
	exec 3<>"/dev/tcp/127.0.0.1/$http" || return 1
	printf 'GET /v2/models/echo/ready HTTP/1.0\r\n\r\n' >&3
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}
serve "127.0.0.1:$grpc http=127.0.0.1:$http" answers
