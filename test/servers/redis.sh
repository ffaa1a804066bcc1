#!/usr/bin/env bash
# A Redis server with the password "freshet-test", from Debian's redis-server.
set -u
command -v redis-server >/dev/null || { echo "redis-server is not installed" >&2; exit 3; }
. "$(dirname "$0")/lib.sh"

port=$(free_port)
redis-server --bind 127.0.0.1 --port "$port" --dir "$dir" --save "" --appendonly no \
	--requirepass freshet-test --daemonize no >"$dir/log" 2>&1 </dev/null &
server=$!
answers() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
	printf 'AUTH freshet-test\r\nPING\r\n' >&3
	read -r line <&3 && read -r line <&3
	exec 3>&-
	[[ $line == +PONG* ]]
}
serve "127.0.0.1:$port" answers
