#!/usr/bin/env bash
# An emulator of Amazon's SQS, Kinesis and EventBridge: moto's server
# (Apache-2.0), from PyPI. It keeps everything in memory and takes any
# credentials, so it shows that requests and answers are understood and nothing
# about Amazon's durability, limits or permissions. "aws.sh install" installs it
# into a cache folder (FRESHET_MOTO names another virtual environment); that
# takes a minute or two, once.
set -u
version=5.2.5
venv=${FRESHET_MOTO:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/moto-$version}
present() { [ -x "$venv/bin/python" ] && [ -e "$venv/bin/moto_server" ]; }

case ${1:-} in
install)
	present && exit 0
	command -v python3 >/dev/null || { echo "no Python here to run moto with" >&2; exit 1; }
	python3 -m venv "$venv" && timeout 280 "$venv/bin/python" -m pip install -q --disable-pip-version-check "moto[server]==$version" && present && exit 0
	rm -rf "$venv"
	exit 1
	;;
present)
	present
	exit
	;;
esac

present || { echo "moto $version is not installed in $venv: run test/servers/aws.sh install" >&2; exit 3; }
. "$(dirname "$0")/lib.sh"

port=$(free_port)
# Not the account of whoever runs this: nothing may reach Amazon.
env -u AWS_PROFILE AWS_ACCESS_KEY_ID=freshet AWS_SECRET_ACCESS_KEY=freshet-test AWS_EC2_METADATA_DISABLED=true \
	MOTO_ENABLE_ISO_REGIONS=false "$venv/bin/python" -m moto.server -H 127.0.0.1 -p "$port" >"$dir/log" 2>&1 </dev/null &
server=$!
answers() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
	printf 'GET /moto-api/ HTTP/1.0\r\n\r\n' >&3
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}
serve "127.0.0.1:$port" answers
