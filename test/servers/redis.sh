#!/usr/bin/env bash
# A Redis server with the password "freshet-test", from Debian's redis-server.
# Words after the name choose what it is like:
#
#	aof     every write is on disk before it is answered
#	tls     TLS only, and only with a client certificate; ca.crt, client.crt and
#	        client.key lie in its folder
#	acl     the default user is off, and the user freshet may only what the
#	        adapters need, on keys that begin with "app:"
#	cluster a node of a Redis Cluster
#	valkey  Valkey in place of Redis
#
# It prints folder=FOLDER behind the address.
set -u
program=redis-server
case " $* " in *" valkey "*) program=valkey-server ;; esac
case " $* " in
*" present "*) command -v "$program" >/dev/null && exit 0 || exit 3 ;;
*" install "*)
	command -v "$program" >/dev/null && exit 0
	flock /tmp/apt.lock apt-get install -y --no-install-recommends "$program"
	exit
	;;
esac
command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 3; }
. "$(dirname "$0")/lib.sh"

port=$(free_port)
password=freshet-test
auth="AUTH $password"
arguments=(--bind 127.0.0.1 --dir "$dir" --daemonize no --requirepass "$password" --save "")
tls=
listen=(--port "$port")
append=(--appendonly no)
for word in "$@"; do
	case $word in
	aof) append=(--appendonly yes --appendfsync always) ;;
	cluster) arguments+=(--cluster-enabled yes) ;;
	valkey) ;;
	acl)
		# Spaces end an argument, so users come from a file.
		{
			echo "user default off"
			echo "user freshet on >$password ~app:* -@all +@connection +info +evalsha +eval +time" \
				"+xadd +xread +xrange +xrevrange +xtrim +xinfo|stream +xlen +exists +type +memory|usage +scan +del +unlink" \
				"+hget +hset +hmget +hgetall +hincrby +sadd +srem +smembers +zadd +zscore +zcard +zcount +zrange +zrangebyscore +zrem" \
				"+zremrangebyrank +get +set +strlen +wait +pexpire"
		} >"$dir/users.acl"
		arguments=(--bind 127.0.0.1 --dir "$dir" --daemonize no --save "" --aclfile "$dir/users.acl")
		auth="AUTH freshet $password"
		;;
	tls)
		tls=yes
		(
			cd "$dir" || exit 1
			openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=freshet-test-ca -keyout ca.key -out ca.crt || exit 1
			for who in server client; do
				openssl req -newkey rsa:2048 -nodes -subj "/CN=$who" -keyout $who.key -out $who.csr || exit 1
				printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >$who.ext
				openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile $who.ext -out $who.crt || exit 1
			done
		) >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
		listen=(--port 0 --tls-port "$port" --tls-cert-file "$dir/server.crt" --tls-key-file "$dir/server.key"
			--tls-ca-cert-file "$dir/ca.crt" --tls-auth-clients yes)
		;;
	*) echo "redis.sh knows no variant \"$word\"" >&2; exit 2 ;;
	esac
done

answers() {
	local line
	if [ -n "$tls" ]; then
		line=$(printf '%s\r\nPING\r\n' "$auth" | timeout 5 openssl s_client -quiet -no_ign_eof -connect "127.0.0.1:$port" -CAfile "$dir/ca.crt" \
			-cert "$dir/client.crt" -key "$dir/client.key" 2>/dev/null)
		[[ $line == *PONG* ]]
		return
	fi
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
	printf '%s\r\nPING\r\n' "$auth" >&3
	read -r line <&3 && read -r line <&3
	exec 3>&-
	[[ $line == +PONG* ]]
}

launch() {
	"$program" "${arguments[@]}" "${listen[@]}" "${append[@]}" >>"$dir/log" 2>&1 </dev/null &
	server=$!
}
launch
serve "127.0.0.1:$port folder=$dir" answers
