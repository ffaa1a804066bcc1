#!/usr/bin/env bash
# A scikit-learn model behind Flask (httpmodel/app.py), from a virtual environment
# that "httpmodel.sh install" makes, at the versions below (FRESHET_HTTPMODEL names
# another environment).
set -u
flask=3.1.3 sklearn=1.9.1
here=$(cd "$(dirname "$0")" && pwd)
venv=${FRESHET_HTTPMODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/httpmodel}
if [ "${1:-}" = install ]; then
	"$venv/bin/python" -c 'import flask, sklearn' 2>/dev/null && exit
	[ -z "${FRESHET_HTTPMODEL:-}" ] || { echo "$FRESHET_HTTPMODEL lacks Flask or scikit-learn" >&2; exit 1; }
	python3 -m venv "$venv" && timeout 240 "$venv/bin/python" -m pip install -q --disable-pip-version-check "flask==$flask" "scikit-learn==$sklearn" && exit
	rm -rf "$venv"
	exit 1
fi
[ -x "$venv/bin/flask" ] && [ -n "$(find "$venv"/lib/*/site-packages -maxdepth 1 -name sklearn -print -quit 2>/dev/null)" ] ||
	{ echo "Flask and scikit-learn are not installed in $venv" >&2; exit 3; }
[ "${1:-}" = present ] && exit
. "$here/lib.sh"

port=$(free_port)
launch() {
	OMP_NUM_THREADS=1 "$venv/bin/python" "$here/httpmodel/app.py" "$port" >>"$dir/log" 2>&1 </dev/null &
	server=$!
}
launch
# In bash, because curl need not be here.
answers() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
	printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}
serve "127.0.0.1:$port" answers
