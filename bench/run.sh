#!/usr/bin/env bash
# Builds bench/peers and runs all comparisons on this machine; it should be alone
# on it.
#
#	run.sh                    everything but the policies, about 20 minutes
#	run.sh brokers [NAME …]   the brokers on their servers alone, about 8 minutes
#	run.sh models [NAME …]    models and how they are served alone, about 6 minutes
#	run.sh policies [NAME …]  scaling policies in the simulator, about 30 minutes
#	run.sh live [NAME …]      scaling policies on a real pipeline, about 25 minutes
#	run.sh NAME …             all but those, about 6 minutes
#
# Results go to bench/results/NAME.{json,md}, those of the brokers to
# NAME-brokers.{json,md}, those of the models to NAME-models.{json,md}, those of policies to NAME-policies.{md,html} and
# NAME-live.txt. NAME is the platform's by default; what follows it is passed on (see `go run . -help` in
# bench/peers, and `freshet bench policies --help`).
set -euo pipefail
cd "$(dirname "$0")/peers"
GO=${GO:-go}
what=all
case ${1:-} in
"") ;;
brokers | models | policies | live) what=$1 && shift ;;
*) what=peers ;;
esac
name=${1:-$($GO env GOOS)-$($GO env GOARCH)-$(getconf _NPROCESSORS_ONLN)core}
[ $# -gt 0 ] && shift

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Scaling policies. Recorded arrivals are read where they are, and made up otherwise.
if [ $what = policies ] || [ $what = live ]; then
	(cd ../.. && CGO_ENABLED=0 $GO build -o "$work/freshet" ./cmd/freshet)
	data=${FRESHET_SHARED_DATA:-../../../shared/data}/arrivals
fi
if [ $what = policies ]; then
	traces=()
	[ -d "$data" ] && traces=(--trace "$data")
	"$work/freshet" bench policies ${traces[@]+"${traces[@]}"} --ablation --output markdown --report "../results/$name-policies.html" "$@" >"$work/policies.md"
	mv "$work/policies.md" "../results/$name-policies.md"
	exit
fi
if [ $what = live ]; then
	trace=()
	[ -d "$data" ] && trace=(--trace "$data/nasa-http-per-minute.csv" --from 336h)
	{
		date -u +"%Y-%m-%d, $(getconf _NPROCESSORS_ONLN) cores of $(uname -m)"
		echo
		echo "Two days, 288 times as fast (nasa-http-per-minute.csv from its 15th day, where it is there):"
		"$work/freshet" --log-level warn bench live ${trace[@]+"${trace[@]}"} --for 48h --speed 288 --objective 2m@0.99 --start-up 4m --policies keda,freshet "$@"
		echo
		echo "A tenfold spike for two minutes, three workers lost, the broker paused for a minute, in 90 minutes of bursts, 72 times as fast:"
		"$work/freshet" --log-level warn bench live --faults --busy 2 --max 60 --policies hpa,keda,kpa,flink,freshet "$@"
	} | tee "$work/live.txt"
	mv "$work/live.txt" "../results/$name-live.txt"
	exit
fi

brokers() {
	"$work/peers" -name "$name-brokers" -only k -events 150000 -out ../results "$@"
}
if [ $what = brokers ]; then
	CGO_ENABLED=0 $GO build -o "$work/peers" .
	brokers "$@"
	exit
fi

# ONNX Runtime's shared library comes in its Python package. FRESHET_ORT_LIB names another.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/freshet-bench
ort_library() {
	command -v python3 >/dev/null || return 0
	if ! compgen -G "$cache/ort/onnxruntime/capi/libonnxruntime.so.*" >/dev/null; then
		mkdir -p "$cache"
		python3 -m pip download -q --no-deps -d "$cache" onnxruntime==1.31.1 >&2 || return 0
		python3 -m zipfile -e "$cache"/onnxruntime-1.31.1-*.whl "$cache/ort" >&2 || return 0
	fi
	compgen -G "$cache/ort/onnxruntime/capi/libonnxruntime.so.*" | head -n 1
}
if [ -z "${FRESHET_ORT_LIB:-}" ]; then
	FRESHET_ORT_LIB=$(ort_library)
	export FRESHET_ORT_LIB
fi
# DuckDB comes as a Python package. FRESHET_DUCKDB_PYTHON names a Python that has it already.
duckdb_python() {
	command -v python3 >/dev/null || return 0
	if ! "$cache/duckdb/bin/python" -c 'import duckdb, numpy' 2>/dev/null; then
		mkdir -p "$cache"
		python3 -m venv "$cache/duckdb" >&2 || return 0
		"$cache/duckdb/bin/pip" install -q duckdb==2.0.0 numpy >&2 || return 0
	fi
	echo "$cache/duckdb/bin/python"
}
if [ $what != models ] && [ -z "${FRESHET_DUCKDB_PYTHON:-}" ]; then
	FRESHET_DUCKDB_PYTHON=$(duckdb_python)
	export FRESHET_DUCKDB_PYTHON
fi
# XGBoost and shap are Python packages too. FRESHET_FRAMEWORKS_PYTHON names a Python that has them already.
frameworks_python() {
	command -v python3 >/dev/null || return 0
	if ! "$cache/frameworks/bin/python" -c 'import onnxmltools, shap, xgboost' 2>/dev/null; then
		mkdir -p "$cache"
		python3 -m venv "$cache/frameworks" >&2 || return 0
		"$cache/frameworks/bin/pip" install -q -r ../../test/frameworks/requirements.txt >&2 || return 0
	fi
	echo "$cache/frameworks/bin/python"
}
if [ $what != peers ] && [ -z "${FRESHET_FRAMEWORKS_PYTHON:-}" ]; then
	FRESHET_FRAMEWORKS_PYTHON=$(frameworks_python)
	export FRESHET_FRAMEWORKS_PYTHON
fi
if [ -n "$FRESHET_ORT_LIB" ] && command -v "$($GO env CC)" >/dev/null; then
	CGO_ENABLED=1 $GO build -tags ort -o "$work/peers" .
	# Freshet's own process for it.
	(cd ../.. && CGO_ENABLED=1 $GO build -o "$work/freshet-onnxruntime" ./cmd/freshet-onnxruntime)
	export FRESHET_ONNXRUNTIME_WORKER="$work/freshet-onnxruntime" FRESHET_ONNXRUNTIME_LIBRARY="$FRESHET_ORT_LIB"
else
	echo "bench: no C compiler or no ONNX Runtime: that comparison is left out" >&2
	CGO_ENABLED=0 $GO build -o "$work/peers" .
fi
export GO
models() {
	local data=${FRESHET_SHARED_DATA:-../../../shared/data}/arrivals
	[ -d "$data" ] || data=
	"$work/peers" -name "$name-models" -only lmnop -events 400000 -arrivals "$data" -out ../results "$@"
}
if [ $what = models ]; then
	models "$@"
	exit
fi
# A comparison is fair only between programs that do the same work.
$GO test -run 'GiveTheSameResults|RestoredState' .
"$work/peers" -name "$name" -out ../results "$@"
if [ $what = all ]; then
	brokers
	models
fi
