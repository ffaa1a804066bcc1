#!/usr/bin/env bash
# A PostgreSQL server with the user and database "freshet" and the password
# "freshet-test", from Debian's postgresql. Run by root it becomes the user postgres.
# The argument "tls" makes one that takes encrypted connections alone; ca.crt lies
# in the folder that it prints behind the address, folder=FOLDER.
set -u
case ${1:-} in
install)
	[ "$(id -u)" = 0 ] || { echo "installing postgresql needs root" >&2; exit 1; }
	exec env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive flock /tmp/apt.lock timeout 290 \
		apt-get install -q -y --no-install-recommends postgresql
	;;
esac
bin=
# Debian keeps them off the PATH, a folder for each version.
for b in "$(dirname "$(command -v initdb || echo /nowhere/initdb)")" /usr/lib/postgresql/*/bin; do
	[ -x "$b/initdb" ] && [ -x "$b/postgres" ] && bin=$b
done
[ -n "$bin" ] || { echo "postgresql is not installed" >&2; exit 3; }
[ "${1:-}" = present ] && exit
as=()
if [ "$(id -u)" = 0 ]; then
	id postgres >/dev/null 2>&1 && command -v setpriv >/dev/null || { echo "root cannot run PostgreSQL here: no user postgres, or no setpriv" >&2; exit 3; }
	as=(setpriv --reuid=postgres --regid=postgres --clear-groups --)
fi
. "$(dirname "$0")/lib.sh"

stop_signal=INT # PostgreSQL's fast shutdown
port=$(free_port)
echo freshet-test >"$dir/password"
chmod 755 "$dir"
mkdir "$dir/data"
[ "$(id -u)" = 0 ] && chown postgres "$dir/data" "$dir/password" && chown postgres "$dir"
cd "$dir" || exit 1
if ! "${as[@]}" "$bin/initdb" -D "$dir/data" --username=freshet --pwfile="$dir/password" --auth=scram-sha-256 \
	--encoding=UTF8 --locale=C --no-sync >"$dir/log" 2>&1; then
	cat "$dir/log" >&2
	exit 1
fi
echo 'CREATE DATABASE freshet' | "${as[@]}" "$bin/postgres" --single -D "$dir/data" postgres >>"$dir/log" 2>&1
# left says whether processes of a server that was killed are still about; they
# end by themselves, and a new one refuses to start beside them.
left() {
	local p
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/cwd" 2>/dev/null)" = "$dir/data" ] && return
	done
	return 1
}
secure=()
if [ "${1:-}" = tls ]; then
	(
		cd "$dir" || exit 1
		openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=freshet-test-ca -keyout ca.key -out ca.crt || exit 1
		openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr || exit 1
		printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >server.ext
		openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.crt || exit 1
		chmod 600 server.key
		[ "$(id -u)" != 0 ] || chown postgres server.key
	) >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
	echo 'hostssl all all 127.0.0.1/32 scram-sha-256' >"$dir/data/pg_hba.conf"
	secure=(-c ssl=on -c "ssl_cert_file=$dir/server.crt" -c "ssl_key_file=$dir/server.key")
fi
launch() {
	for _ in $(seq 300); do
		left || break
		sleep 0.1
	done
	: >"$dir/log"
	"${as[@]}" "$bin/postgres" -D "$dir/data" -h 127.0.0.1 -p "$port" -k "$dir" -c fsync=off -c max_connections=40 \
		-c shared_buffers=32MB "${secure[@]}" >"$dir/log" 2>&1 </dev/null &
	server=$!
}
answers() { grep -q 'ready to accept connections' "$dir/log"; }
launch
serve "127.0.0.1:$port folder=$dir" answers
