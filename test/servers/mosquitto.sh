#!/usr/bin/env bash
# A Mosquitto broker with the user "freshet" and the password "freshet-test", who
# may not touch topics below forbidden/, from Debian's mosquitto.
#
#	mosquitto.sh [tls]
#
# prints "ready HOST:PORT dir=DIR" and, with tls,
# "tls=HOST:PORT ca=FILE cert=FILE key=FILE other=FILE otherkey=FILE": that port demands a certificate
# of the client's, whose common name is the user; other is one that nobody signed.
# Sessions are written to disk at each change.
#
# "mosquitto.sh install" installs the package and "mosquitto.sh present" tells
# whether it is there.
set -u
program=$(command -v mosquitto || echo /usr/sbin/mosquitto)
case ${1:-} in
install)
	[ -x "$program" ] && command -v mosquitto_pub >/dev/null && exit 0
	[ "$(id -u)" = 0 ] || { echo "installing mosquitto needs root" >&2; exit 1; }
	# The package would start a broker of its own.
	exec env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive flock /tmp/apt.lock timeout 290 \
		apt-get install -y --no-install-recommends mosquitto mosquitto-clients
	;;
present)
	[ -x "$program" ] && command -v mosquitto_passwd >/dev/null && command -v mosquitto_pub >/dev/null && exit 0
	exit 3
	;;
esac
[ -x "$program" ] && command -v mosquitto_passwd >/dev/null || { echo "mosquitto is not installed" >&2; exit 3; }
. "$(dirname "$0")/lib.sh"

tls=
for word; do
	case $word in
	tls) tls=1 ;;
	*) echo "unknown argument $word" >&2; exit 1 ;;
	esac
done
port=$(free_port)
tlsport=$(free_port)

mkdir "$dir/data"
touch "$dir/passwords" && chmod 600 "$dir/passwords"
mosquitto_passwd -b "$dir/passwords" freshet freshet-test
printf 'user freshet\ntopic readwrite #\ntopic deny forbidden/#\ntopic deny $share/+/forbidden/#\n' >"$dir/acl"
# Root may not become another user here, because the folder is root's.
cat >"$dir/conf" <<-END
user $(id -un)
per_listener_settings false
persistence true
persistence_location $dir/data/
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
max_inflight_messages 0
max_packet_size 2000000
allow_anonymous false
password_file $dir/passwords
acl_file $dir/acl
listener $port 127.0.0.1
END
if [ -n "$tls" ]; then
	command -v openssl >/dev/null || { echo "openssl is not installed" >&2; exit 3; }
	req() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "$@" 2>/dev/null; }
	req -x509 -subj /CN=ca -keyout "$dir/ca.key" -out "$dir/ca.pem"
	printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' >"$dir/san"
	for name in server freshet; do
		req -subj "/CN=$name" -keyout "$dir/$name.key" -out "$dir/$name.csr"
		openssl x509 -req -in "$dir/$name.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
			-extfile "$dir/san" -out "$dir/$name.pem" 2>/dev/null
	done
	req -x509 -subj /CN=freshet -keyout "$dir/other.key" -out "$dir/other.pem"
	cat >>"$dir/conf" <<-END
	listener $tlsport 127.0.0.1
	cafile $dir/ca.pem
	certfile $dir/server.pem
	keyfile $dir/server.key
	require_certificate true
	use_identity_as_username true
	END
fi
launch() {
	"$program" -c "$dir/conf" >"$dir/log" 2>&1 </dev/null &
	server=$!
}
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port"); }
words=
[ -n "$tls" ] && words=" tls=127.0.0.1:$tlsport ca=$dir/ca.pem cert=$dir/freshet.pem key=$dir/freshet.key other=$dir/other.pem otherkey=$dir/other.key"
launch
serve "127.0.0.1:$port dir=$dir$words" answers
