#!/usr/bin/env bash
# NATS with JetStream, built from the module that go.mod names.
#
#	nats.sh [one]      one node
#	nats.sh cluster    three nodes
#	nats.sh always     one node whose acknowledgements wait for the disk
#	nats.sh install    builds the server into the cache
#	nats.sh present    exits with 0 where it can start
#
# It prints "ready HOST:PORT[,HOST:PORT…]". The commands on stdin, see lib.sh,
# take the number of a node, 1 by default.
set -u
here=$(cd "$(dirname "$0")" && pwd)
version=$(awk '$1 == "github.com/nats-io/nats-server/v2" { print $2 }' "$here/../../go.mod")
program=${FRESHET_NATS:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/nats-server-$version}

install() {
	[ -x "$program" ] && return
	command -v go >/dev/null || { echo "no Go here to build the NATS server with" >&2; return 1; }
	mkdir -p "$(dirname "$program")"
	(cd "$here/../.." && CGO_ENABLED=0 timeout 300 go build -trimpath -o "$program.$$" github.com/nats-io/nats-server/v2) >&2 && mv "$program.$$" "$program"
}

mode=${1:-one}
case $mode in
install) install; exit ;;
present) [ -x "$program" ] || command -v go >/dev/null || exit 3; exit ;;
one | cluster | always) ;;
*) echo "usage: nats.sh [one | cluster | always | install | present]" >&2; exit 2 ;;
esac
install || { echo "NATS server $version cannot be built here" >&2; exit 3; }
. "$here/lib.sh"
trap 'stop_nodes; exit 0' EXIT INT TERM HUP

nodes=1
[ "$mode" = cluster ] && nodes=3
declare -a pid port route monitor
routes= addresses=
for n in $(seq $nodes); do
	port[n]=$(free_port) route[n]=$(free_port) monitor[n]=$(free_port)
	routes+="\"nats://127.0.0.1:${route[n]}\", "
	addresses+=${addresses:+,}127.0.0.1:${port[n]}
done

configure() {
	local n=$1
	cat <<-CONF
		server_name: n$n
		listen: "127.0.0.1:${port[n]}"
		http: "127.0.0.1:${monitor[n]}"
		jetstream {
		  store_dir: "$dir/data$n"
		  max_mem: 256MB, max_file: 8GB
		  $([ "$mode" = always ] && echo 'sync_interval: always')
		}
	CONF
	[ "$nodes" = 1 ] && return
	cat <<-CONF
		cluster {
		  name: freshet-test
		  listen: "127.0.0.1:${route[n]}"
		  routes: [ ${routes} ]
		}
	CONF
}

stop_nodes() {
	trap - EXIT INT TERM HUP
	local n
	for n in $(seq $nodes); do
		[ -n "${pid[n]:-}" ] && kill -CONT "${pid[n]}" 2>/dev/null && kill -KILL "${pid[n]}" 2>/dev/null
	done
	wait
	rm -rf "$dir"
}

start_node() {
	"$program" -c "$dir/node$1" >>"$dir/log$1" 2>&1 </dev/null &
	pid[$1]=$!
}

# healthy says whether a node has its streams, and knows who leads the cluster.
healthy() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/${monitor[$1]}" || return 1
	printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}

await_node() {
	for _ in $(seq 600); do
		healthy "$1" 2>/dev/null && return
		kill -0 "${pid[$1]}" 2>/dev/null || break
		sleep 0.1
	done
	echo "NATS did not start:" >&2
	tail -n 20 "$dir/log$1" >&2
	return 1
}

for n in $(seq $nodes); do
	configure "$n" >"$dir/node$n"
	start_node "$n"
done
for n in $(seq $nodes); do await_node "$n" || { stop_nodes; exit 1; }; done
echo "ready $addresses"

end_node() {
	kill -CONT "${pid[$1]}" && kill -"$2" "${pid[$1]}" || return
	wait "${pid[$1]}" 2>/dev/null
	return 0
}

while read -r command n; do
	n=${n:-1}
	case $command in
	kill) end_node "$n" KILL ;;
	stop) end_node "$n" TERM ;;
	start) start_node "$n" && await_node "$n" ;;
	freeze) kill -STOP "${pid[n]}" ;;
	thaw) kill -CONT "${pid[n]}" ;;
	*) false ;;
	esac && echo done || echo "failed $command $n: $(tail -n 1 "$dir/log$n")"
done
