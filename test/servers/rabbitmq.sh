#!/usr/bin/env bash
# A RabbitMQ node with AMQP and streams, with the user "freshet" and the password
# "freshet-test", from Debian's rabbitmq-server.
#
#	rabbitmq.sh [tls] [dir=DIR ports=AMQP,STREAM[,AMQPS,STREAMS]]
#
# prints "ready HOST:STREAM amqp=HOST:PORT dir=DIR ports=… pid=PID" and, with tls,
# "amqps=HOST:PORT streams=HOST:PORT ca=FILE cert=FILE key=FILE": those two ports
# demand a certificate of the client's, and the common name of the one given is
# "freshet". With dir and ports it starts again on the data that an earlier one
# left when it was killed; who gives them removes the folder. The pid is the
# server's own, for kill -9. There are also the virtual host "other", which the
# user may not use, the user "reader" who may only read, a stream "first" and a
# quorum queue "kept".
#
# "rabbitmq.sh install" installs the package and "rabbitmq.sh present" tells
# whether it is there.
set -u
home=
for h in /usr/lib/rabbitmq/lib/rabbitmq_server-*; do
	[ -x "$h/sbin/rabbitmq-server" ] && home=$h
done
case ${1:-} in
install)
	[ -n "$home" ] && exit 0
	[ "$(id -u)" = 0 ] || { echo "installing rabbitmq-server needs root" >&2; exit 1; }
	# The package would start a node of its own.
	exec env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive flock /tmp/apt.lock timeout 290 \
		apt-get install -y --no-install-recommends rabbitmq-server
	;;
present)
	[ -n "$home" ] && command -v erl >/dev/null && exit 0
	exit 3
	;;
esac
[ -n "$home" ] && command -v erl >/dev/null || { echo "rabbitmq-server is not installed" >&2; exit 3; }
. "$(dirname "$0")/lib.sh"

tls= again= ports=
for word; do
	case $word in
	tls) tls=1 ;;
	dir=*) rm -rf "$dir" && dir=${word#dir=} && again=1 ;;
	ports=*) ports=${word#ports=} ;;
	advertise=*) ;;
	*) echo "unknown argument $word" >&2; exit 1 ;;
	esac
done
IFS=, read -r amqp streams amqps streamss epmd dist <<<"$ports"
if [ -z "$ports" ]; then
	amqp=$(free_port) streams=$(free_port) amqps=$(free_port) streamss=$(free_port) epmd=$(free_port) dist=$(free_port)
	ports=$amqp,$streams,$amqps,$streamss,$epmd,$dist
fi

if [ -z "$again" ]; then
	mkdir -p "$dir/data" "$dir/logs" "$dir/etc"
	echo '[rabbitmq_stream,rabbitmq_auth_mechanism_ssl].' >"$dir/etc/plugins"
	cat >"$dir/etc/definitions.json" <<-END
	{"users": [
	  {"name": "freshet", "password": "freshet-test", "tags": "administrator"},
	  {"name": "reader", "password": "freshet-test", "tags": ""}],
	 "vhosts": [{"name": "/"}, {"name": "other"}],
	 "permissions": [
	  {"user": "freshet", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
	  {"user": "reader", "vhost": "/", "configure": "", "write": "", "read": ".*"}],
	 "queues": [
	  {"name": "first", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "stream"}},
	  {"name": "kept", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}}]}
	END
	{
		echo "listeners.tcp.1 = 127.0.0.1:$amqp"
		echo "stream.listeners.tcp.1 = 127.0.0.1:$streams"
		echo "stream.advertised_host = 127.0.0.1"
		[ -n "$advertise" ] && echo "stream.advertised_port = ${advertise##*:}"
		echo "load_definitions = $dir/etc/definitions.json"
		echo "log.file.level = warning"
		echo "log.console = false"
		echo "vm_memory_high_watermark.absolute = 1GB"
		echo "disk_free_limit.absolute = 50MB"
		echo "auth_mechanisms.1 = PLAIN"
		echo "auth_mechanisms.2 = AMQPLAIN"
		echo "auth_mechanisms.3 = EXTERNAL"
		echo "ssl_cert_login_from = common_name"
		if [ -n "$tls" ]; then
			echo "listeners.ssl.1 = 127.0.0.1:$amqps"
			echo "stream.listeners.ssl.1 = 127.0.0.1:$streamss"
			echo "ssl_options.cacertfile = $dir/etc/ca.pem"
			echo "ssl_options.certfile = $dir/etc/server.pem"
			echo "ssl_options.keyfile = $dir/etc/server.key"
			echo "ssl_options.verify = verify_peer"
			echo "ssl_options.fail_if_no_peer_cert = true"
		fi
	} >"$dir/etc/rabbitmq.conf"
	if [ -n "$tls" ]; then
		command -v openssl >/dev/null || { echo "no openssl here to make certificates with" >&2; exit 3; }
		(
			cd "$dir/etc" || exit 1
			openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=freshet-test-ca -keyout ca.key -out ca.pem
			for name in server freshet; do
				openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
				echo "subjectAltName=IP:127.0.0.1,DNS:localhost" |
					openssl x509 -req -days 2 -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile /dev/stdin -out $name.pem
			done
		) >>"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
	fi
fi

export HOME=$dir ERL_EPMD_PORT=$epmd ERL_EPMD_ADDRESS=127.0.0.1 LANG=C.UTF-8
export RABBITMQ_NODENAME=freshet$amqp@localhost RABBITMQ_DIST_PORT=$dist
export RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/logs
export RABBITMQ_CONFIG_FILE=$dir/etc/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$dir/etc/plugins
export RABBITMQ_PLUGINS_DIR=$home/plugins RABBITMQ_PID_FILE=$dir/pid
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
# With input allowed the shell becomes the server: one process with one id.
export RABBITMQ_ALLOW_INPUT=1

epmd -address 127.0.0.1 -port "$epmd" >>"$dir/log" 2>&1 </dev/null &
portmapper=$!
launch() {
	rm -f "$dir/pid"
	"$home/sbin/rabbitmq-server" -noinput >>"$dir/log" 2>&1 </dev/null &
	server=$!
}
launch

stop() {
	trap - EXIT INT TERM HUP
	kill -"${stop_signal:-TERM}" "$server" 2>/dev/null
	wait "$server" 2>/dev/null
	kill "$portmapper" 2>/dev/null
	wait "$portmapper" 2>/dev/null
	[ -n "$again" ] || [ -e "$dir/keep" ] || rm -rf "$dir"
}
answers() {
	local word
	exec 3<>"/dev/tcp/127.0.0.1/$streams" || return 1
	exec 3>&-
	exec 3<>"/dev/tcp/127.0.0.1/$amqp" || return 1
	printf 'AMQP\0\0\11\1' >&3
	read -r -n 1 -t 5 word <&3
	local rc=$?
	exec 3>&-
	[ $rc -le 1 ] || return 1
	# The server writes its lists of coordinators and of quorum queues half a second
	# after they changed, and loses what is not in them where it is killed before:
	# all streams, if the first was just made, and quorum queues that were.
	[ -n "$again" ] || sleep 1
}
words="amqp=127.0.0.1:$amqp dir=$dir ports=$ports pid=$server"
[ -n "$tls" ] && words+=" amqps=127.0.0.1:$amqps streams=127.0.0.1:$streamss ca=$dir/etc/ca.pem cert=$dir/etc/freshet.pem key=$dir/etc/freshet.key"
serve "127.0.0.1:$streams $words" answers
