#!/usr/bin/env bash
# Ollama, an OpenAI-compatible server around llama.cpp, with one tiny model of random
# weights (ollama/model.py). "ollama.sh install" builds it from its Go module with
# the C and C++ compilers, on two cores in some ten minutes, and makes the model with the
# gguf package of PyPI (FRESHET_OLLAMA names another folder that holds both). For that
# time it does so only where FRESHET_HEAVY is set.
set -u
version=0.9.6
here=$(cd "$(dirname "$0")" && pwd)
home=${FRESHET_OLLAMA:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/ollama-$version}
if [ "${1:-}" = install ]; then
	[ -x "$home/ollama" ] && [ -s "$home/tiny.gguf" ] && exit
	[ -n "${FRESHET_HEAVY:-}" ] || { echo "it takes ten minutes to build: FRESHET_HEAVY=1 test/servers/ollama.sh install" >&2; exit 1; }
	mkdir -p "$home"
	if [ ! -s "$home/tiny.gguf" ]; then
		python3 -m venv "$home/venv" && timeout 240 "$home/venv/bin/python" -m pip install -q --disable-pip-version-check gguf==0.19.0 &&
			"$home/venv/bin/python" "$here/ollama/model.py" "$home/tiny.gguf.part" && mv "$home/tiny.gguf.part" "$home/tiny.gguf" || exit 1
		rm -rf "$home/venv"
	fi
	[ -x "$home/ollama" ] || GOBIN=$home GOFLAGS= CGO_ENABLED=1 timeout 1500 nice go install "github.com/ollama/ollama@v$version" || exit 1
	exit
fi
[ -x "$home/ollama" ] && [ -s "$home/tiny.gguf" ] || { echo "Ollama is not installed in $home" >&2; exit 3; }
[ "${1:-}" = present ] && exit
. "$here/lib.sh"

port=$(free_port)
export HOME=$dir OLLAMA_HOST=127.0.0.1:$port OLLAMA_MODELS=$dir/models OLLAMA_KEEP_ALIVE=10m OLLAMA_NUM_PARALLEL=2
"$home/ollama" serve >"$dir/log" 2>&1 </dev/null &
server=$!
# The model is there when Ollama has copied it.
answers() {
	"$home/ollama" list || return 1
	printf 'FROM %s\nTEMPLATE """{{ .System }} {{ .Prompt }}"""\n' "$home/tiny.gguf" >"$dir/Modelfile"
	"$home/ollama" create tiny -f "$dir/Modelfile"
}
serve "127.0.0.1:$port" answers
