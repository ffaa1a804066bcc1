#!/usr/bin/env bash
# A Prometheus server, from Debian's prometheus, which scrapes every second what
# "target=HOST:PORT" names.
set -u
case " $* " in
*" present "*) command -v prometheus >/dev/null && exit 0 || exit 3 ;;
*" install "*)
	command -v prometheus >/dev/null && exit 0
	# The package's own service is not wanted.
	flock /tmp/apt.lock apt-get install -y --no-install-recommends prometheus
	exit
	;;
esac
command -v prometheus >/dev/null || { echo "prometheus is not installed" >&2; exit 3; }
. "$(dirname "$0")/lib.sh"

target=
for word in "$@"; do
	case $word in
	target=*) target=${word#*=} ;;
	*) echo "prometheus.sh knows no variant \"$word\"" >&2; exit 2 ;;
	esac
done
port=$(free_port)
cat >"$dir/prometheus.yml" <<END
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: freshet
    static_configs: [{targets: ["$target"]}]
END
answers() {
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
	printf 'GET /-/ready HTTP/1.0\r\n\r\n' >&3
	local line
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}
launch() {
	prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" --web.listen-address="127.0.0.1:$port" >>"$dir/log" 2>&1 </dev/null &
	server=$!
}
launch
serve "127.0.0.1:$port" answers
