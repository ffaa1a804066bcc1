# Sourced by the scripts of this folder. Each of them starts one real server on
# a free port of the loopback interface, with its data in a folder of its own,
# prints "ready HOST:PORT" on stdout, and stops the server, by its own process
# id, when its standard input ends or it is told to. Where the server is not
# installed it says so on stderr and exits with 3.

# free_port finds a port that nobody listens on.
free_port() {
	local p
	for _ in $(seq 50); do
		p=$((20000 + RANDOM % 12000))
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then
			echo "$p"
			return
		fi
	done
	echo "no free port found" >&2
	exit 1
}

dir=$(mktemp -d "${TMPDIR:-/tmp}/freshet-server.XXXXXX")
server=

stop() {
	trap - EXIT INT TERM HUP
	if [ -n "$server" ]; then
		kill -"${stop_signal:-TERM}" "$server" 2>/dev/null
		wait "$server" 2>/dev/null
	fi
	rm -rf "$dir"
}
trap 'stop; exit 0' EXIT INT TERM HUP

# serve ADDRESS CHECK… waits until CHECK succeeds, says so, and stays until stdin ends.
serve() {
	local address=$1
	shift
	for _ in $(seq 600); do
		if "$@" >/dev/null 2>&1; then
			echo "ready $address"
			cat >/dev/null
			return
		fi
		if ! kill -0 "$server" 2>/dev/null; then
			break
		fi
		sleep 0.1
	done
	echo "the server did not start:" >&2
	tail -n 20 "$dir/log" >&2
	stop
	exit 1
}
