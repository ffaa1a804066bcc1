# Sourced by the run.sh of the examples: finds freshet, starts servers by the
# scripts of test/servers, and ends all that was started when the example ends,
# Ctrl-C included.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/freshet-example.XXXXXX")
processes=()

fail() {
	echo "$*" >&2
	exit 1
}

# need PROGRAM PACKAGE
need() {
	command -v "$1" >/dev/null && return
	echo "$1 is not installed; on Debian: apt-get install $2" >&2
	exit 3
}

cleanup() {
	trap - EXIT
	trap '' INT TERM
	local i
	for ((i = ${#processes[@]} - 1; i >= 0; i--)); do
		kill "${processes[i]}" 2>/dev/null || true
		wait "${processes[i]}" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

freshet=${FRESHET:-$root/freshet}
[ -x "$freshet" ] || freshet=$(command -v freshet) || fail "there is no $root/freshet yet: run make there first, or set FRESHET"

# await WHAT LOG PID CHECK… waits until CHECK succeeds, for a minute, as long as the process lives.
await() {
	local what=$1 log=$2 pid=$3 end=$((SECONDS + 60))
	shift 3
	until "$@" >/dev/null 2>&1; do
		if ! kill -0 "$pid" 2>/dev/null || [ $SECONDS -ge $end ]; then
			tail -n 20 "$log" >&2
			fail "$what"
		fi
		sleep 0.2
	done
}

# server NAME [WORD] sets $address to where such a server listens: where the variable NAME,
# in capitals, says; otherwise one is started, and of its addresses the one it prints
# as WORD=… taken. Its user is freshet, the password freshet-test.
server() {
	local name=$1 word=${2:-} variable=${1^^} pid code=0 words
	address=${!variable:-}
	if [ -n "$address" ]; then
		echo "$name: $address"
		return
	fi
	echo "starting $name …"
	mkfifo "$work/$name.in"
	exec {input}<>"$work/$name.in" # stays open, for the server ends with it
	bash "$root/test/servers/$name.sh" <"$work/$name.in" >"$work/$name.out" 2>"$work/$name.log" {input}>&- &
	pid=$!
	processes+=("$pid")
	until grep -q ^ready "$work/$name.out"; do
		if ! kill -0 "$pid" 2>/dev/null; then
			wait "$pid" || code=$?
			cat "$work/$name.log" >&2
			[ "$code" != 3 ] || echo "test/servers/$name.sh install installs it on Debian; or say where one runs: $variable=HOST:PORT" >&2
			exit "$code"
		fi
		sleep 0.1
	done
	read -r _ address words <"$work/$name.out"
	[ -z "$word" ] || address=$(sed -n "s/.*\b$word=\([^ ]*\).*/\1/p" <<<"$words")
	echo "$name: $address"
}

# start NAME ARGUMENT… runs freshet until the example ends or finish, and sets $url to its HTTP API.
start() {
	local name=$1
	shift
	"$freshet" "$@" --listen 127.0.0.1:0 >"$work/$name.out" 2>"$work/$name.log" &
	processes+=("$!")
	await "freshet $1 has not started" "$work/$name.log" "$!" grep -q address= "$work/$name.log"
	url=$(sed -n 's/.*address=\(http[^ ]*\).*/\1/p' "$work/$name.log")
	await "freshet $1 is not ready" "$work/$name.log" "$!" curl -fs "$url/readyz"
	echo "freshet $1: $url"
}

# finish ends what was started last, and shows what it has to say.
finish() {
	local last=$((${#processes[@]} - 1)) code=0
	kill "${processes[last]}"
	wait "${processes[last]}" || code=$?
	unset "processes[last]"
	cat "$work/$1.out"
	if [ "$code" != 0 ]; then
		tail -n 20 "$work/$1.log" >&2
		fail "freshet ended with $code"
	fi
}
