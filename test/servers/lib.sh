# Sourced by the scripts of this folder. Each of them starts one real server on
# a free port of the loopback interface, with its data in a folder of its own,
# prints "ready HOST:PORT [WORD…]" on stdout, and stops the server, by its own
# process id, when its standard input ends or it is told to. Where the server is
# not installed it says so on stderr and exits with 3.
#
# "NAME.sh install" installs it by package name, in at most five minutes, and
# "NAME.sh present" exits with 0 where it can start; other arguments choose what
# it is like.
#
# Lines on the standard input act on the server, and each is answered by a line,
# "done", "ready …" or "failed WHY":
#
#	kill     ends it as kill -9 does
#	stop     ends it in an orderly way
#	start    starts it again on the same data and port, and waits until it answers
#	freeze   stops its clock (SIGSTOP); thaw lets it go on
#
# serve does this for scripts that set $server to the process id of their server.
# Those that can start it again put that into a function "launch", which sets
# $server, and call it once before serve.

# Where the argument "advertise=HOST:PORT" names a proxy, the server tells clients
# that come by it that address, in place of its own: $advertise. Scripts of servers
# that send their clients nowhere else have no need to know.

advertise=
for word; do
	case $word in advertise=*) advertise=${word#*=} ;; esac
done

# free_port prints a port that nobody listens on, and that no other script which
# still runs was given: its server may not listen yet, or be about to start again.
free_port() (
	ports="${TMPDIR:-/tmp}/freshet-ports.$(id -u)"
	exec 9>>"$ports" || exit 1
	# Without flock two scripts that start at the same instant may still draw the same port.
	! command -v flock >/dev/null || flock -w 60 9 || { echo "no lock on $ports" >&2; exit 1; }
	held=$(while read -r p owner; do kill -0 "$owner" 2>/dev/null && echo "$p $owner"; done <"$ports")
	for _ in $(seq 200); do
		p=$((20000 + RANDOM % 12000))
		case $'\n'$held in *$'\n'"$p "*) continue ;; esac
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then
			printf '%s\n' "$held" "$p $$" >"$ports"
			echo "$p"
			exit
		fi
	done
	echo "no free port found" >&2
	exit 1
)

dir=$(mktemp -d "${TMPDIR:-/tmp}/freshet-server.XXXXXX")
server=

stop() {
	trap - EXIT INT TERM HUP
	if [ -n "$server" ]; then
		kill -CONT "$server" 2>/dev/null
		kill -"${stop_signal:-TERM}" "$server" 2>/dev/null
		wait "$server" 2>/dev/null
	fi
	rm -rf "$dir"
}
trap 'stop; exit 0' EXIT INT TERM HUP

# await CHECK… waits until CHECK succeeds, as long as the server runs, for a minute.
await() {
	for _ in $(seq 600); do
		"$@" >/dev/null 2>&1 && return
		kill -0 "$server" 2>/dev/null || return 1
		sleep 0.1
	done
	return 1
}

# end SIGNAL ends the server and waits for it.
end() {
	[ -n "$server" ] || return 0
	kill -CONT "$server" 2>/dev/null
	kill -"$1" "$server" 2>/dev/null
	wait "$server" 2>/dev/null
	server=
}

# serve "ADDRESS WORD…" CHECK… waits until CHECK succeeds, says so, and does what
# it is told until stdin ends.
serve() {
	local address=$1 command
	shift
	if ! await "$@"; then
		echo "the server did not start:" >&2
		tail -n 20 "$dir/log" >&2
		stop
		exit 1
	fi
	echo "ready $address"
	while read -r command _; do
		case $command in
		kill) end KILL && echo done ;;
		stop) end "${stop_signal:-TERM}" && echo done ;;
		start)
			if [ "$(type -t launch)" != function ]; then
				echo "failed this script cannot start its server again"
			elif launch && await "$@"; then
				echo "ready $address"
			else
				echo "failed $(tail -n 3 "$dir/log" | tr '\n' ' ')"
			fi
			;;
		freeze) kill -STOP "$server" && echo done || echo "failed nothing runs" ;;
		thaw) kill -CONT "$server" && echo done || echo "failed nothing runs" ;;
		*) echo "failed no command $command" ;;
		esac
	done
}
