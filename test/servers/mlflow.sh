#!/usr/bin/env bash
# An MLflow server over SQLite with the models of mlflow/log.py, from a virtual
# environment that "mlflow.sh install" makes, at the versions below (FRESHET_MLFLOW
# names another environment). It has them logged once, into the folder "data" of the
# environment, of which each server gets a copy.
set -u
version=3.16.0
here=$(cd "$(dirname "$0")" && pwd)
venv=${FRESHET_MLFLOW:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/mlflow}
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true GIT_PYTHON_REFRESH=quiet
present() { [ -x "$venv/bin/mlflow" ] && [ -f "$venv/data/logged-$version" ]; }
if [ "${1:-}" = install ]; then
	present && exit
	if [ ! -x "$venv/bin/mlflow" ] || ! "$venv/bin/python" -c 'import skl2onnx, onnxruntime' 2>/dev/null; then
		[ -z "${FRESHET_MLFLOW:-}" ] || { echo "$FRESHET_MLFLOW has no MLflow" >&2; exit 1; }
		python3 -m venv "$venv" && timeout 280 "$venv/bin/python" -m pip install -q --disable-pip-version-check \
			"mlflow==$version" onnx==1.20.1 skl2onnx==1.19.1 onnxruntime==1.24.1 || { rm -rf "$venv"; exit 1; }
	fi
elif ! present; then
	echo "MLflow $version is not installed in $venv" >&2
	exit 3
elif [ "${1:-}" = present ]; then
	exit
fi
. "$here/lib.sh"

port=$(free_port)
[ -d "$venv/data" ] && cp -r "$venv/data/." "$dir"
# What "mlflow server" starts, without its processes around it, which would stay
# behind where it is killed.
launch() {
	_MLFLOW_SERVER_FILE_STORE="sqlite:///$dir/mlflow.db" _MLFLOW_SERVER_SERVE_ARTIFACTS=true _MLFLOW_SERVER_ARTIFACT_ROOT=mlflow-artifacts:/ \
		_MLFLOW_SERVER_ARTIFACT_DESTINATION="$dir/artifacts" MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
		"$venv/bin/python" -m uvicorn --host 127.0.0.1 --port "$port" mlflow.server.fastapi_app:app >"$dir/log" 2>&1 </dev/null &
	server=$!
}
answers() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
	printf 'GET /health HTTP/1.0\r\n\r\n' >&3
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}
launch
if [ "${1:-}" = install ]; then
	await answers && timeout 200 "$venv/bin/python" "$here/mlflow/log.py" "http://127.0.0.1:$port" >>"$dir/log" 2>&1
	rc=$?
	if [ $rc = 0 ]; then
		end TERM
		rm -rf "$venv/data"
		mkdir -p "$venv/data" && cp -r "$dir/mlflow.db" "$dir/artifacts" "$venv/data" && touch "$venv/data/logged-$version"
		rc=$?
	else
		tail -n 20 "$dir/log" >&2
	fi
	stop
	exit $rc
fi
serve "127.0.0.1:$port" answers
