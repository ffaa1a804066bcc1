#!/usr/bin/env bash
# ONNX Runtime's shared library, which is no server: the tests of inference/ort
# start their own process with it. "onnxruntime.sh install" takes it from PyPI's
# onnxruntime, at the version below (FRESHET_ONNXRUNTIME_LIBRARY names another), and
# "onnxruntime.sh path" prints where it lies. The worker that loads it needs a C
# compiler to be built, which "present" asks for too.
set -u
version=1.31.1
home=${XDG_CACHE_HOME:-$HOME/.cache}/freshet/onnxruntime-$version
library=${FRESHET_ONNXRUNTIME_LIBRARY:-$home/libonnxruntime.so.$version}
if [ "${1:-}" = install ]; then
	[ -s "$library" ] && exit
	mkdir -p "$home" && wheel=$(mktemp -d "$home/wheel.XXXXXX") || exit 1
	trap 'rm -rf "$wheel"' EXIT
	timeout 240 python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$wheel" "onnxruntime==$version" &&
		python3 -m zipfile -e "$wheel"/onnxruntime-*.whl "$wheel" &&
		mv "$wheel/onnxruntime/capi/libonnxruntime.so.$version" "$library"
	exit
fi
[ -s "$library" ] || { echo "ONNX Runtime is not installed at $library" >&2; exit 3; }
command -v "${CC:-cc}" >/dev/null || { echo "there is no C compiler to build the worker of ONNX Runtime with" >&2; exit 3; }
[ "${1:-}" = present ] && exit
echo "$library"
