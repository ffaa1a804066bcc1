#!/usr/bin/env bash
# An MLServer that serves models by the Open Inference Protocol, over gRPC and
# HTTP, in one process without workers. "mlserver.sh FOLDER" serves the models of
# that folder, each with its model-settings.json; without one it serves those that
# mlserver/models.py makes, among them ONNX files of the folder that "onnx=FOLDER"
# names. The runtimes of mlserver/runtimes.py are there for both. It prints
#
#	ready GRPC_HOST:PORT http=HTTP_HOST:PORT golden=FILE
#
# "mlserver.sh install" makes its virtual environment, at the versions below
# (FRESHET_MLSERVER names another environment).
set -u
here=$(cd "$(dirname "$0")" && pwd)
venv=${FRESHET_MLSERVER:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/mlserver}
packages=(mlserver==1.7.0 mlserver-sklearn==1.7.1 scikit-learn==1.9.1 numpy==2.4.6 onnxruntime==1.31.1)
if [ "${1:-}" = install ]; then
	[ -e "$venv/freshet-ready" ] && exit
	[ -z "${FRESHET_MLSERVER:-}" ] || { echo "$FRESHET_MLSERVER has no MLServer" >&2; exit 1; }
	python3 -m venv "$venv" && timeout 280 "$venv/bin/python" -m pip install -q --disable-pip-version-check "${packages[@]}" &&
		"$venv/bin/python" -c 'import mlserver, mlserver_sklearn, onnxruntime' && touch "$venv/freshet-ready" && exit
	rm -rf "$venv"
	exit 1
fi
[ -e "$venv/freshet-ready" ] || { [ -n "${FRESHET_MLSERVER:-}" ] && [ -x "$venv/bin/mlserver" ]; } ||
	{ echo "MLServer is not installed in $venv" >&2; exit 3; }
[ "${1:-}" = present ] && exit
. "$here/lib.sh"

models= onnx=
for word; do
	case $word in
	onnx=*) onnx=${word#*=} ;;
	advertise=*) ;;
	*) models=$(cd "$word" && pwd) || exit 1 ;;
	esac
done
export PYTHONPATH="$here/mlserver" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
if [ -z "$models" ]; then
	models=$dir/models
	"$venv/bin/python" "$here/mlserver/models.py" "$models" $onnx >"$dir/log" 2>&1 ||
		{ echo "no models were made: $(tail -n 3 "$dir/log" | tr '\n' ' ')" >&2; exit 1; }
fi
http=$(free_port)
grpc=$(free_port)
metrics=$(free_port)
mkdir "$dir/metrics"
export MLSERVER_HOST=127.0.0.1 MLSERVER_HTTP_PORT=$http MLSERVER_GRPC_PORT=$grpc MLSERVER_METRICS_PORT=$metrics \
	MLSERVER_METRICS_DIR="$dir/metrics" MLSERVER_PARALLEL_WORKERS=0 MLSERVER_DEBUG=false
cd "$dir" || exit 1
launch() {
	"$venv/bin/mlserver" start "$models" >>"$dir/log" 2>&1 </dev/null &
	server=$!
}
launch
# In bash, because curl need not be here.
answers() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$grpc" || return 1
	exec 3<>"/dev/tcp/127.0.0.1/$http" || return 1
	printf 'GET /v2/health/ready HTTP/1.0\r\n\r\n' >&3
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}
serve "127.0.0.1:$grpc http=127.0.0.1:$http golden=$models/golden.json" answers
