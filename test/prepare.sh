#!/usr/bin/env bash
# Installs what optional tests need, by package name, where this machine is a
# Debian and we may; prints on stdout, comma-separated, what the tests can count
# on. Everything else it has to say goes to stderr. It never fails: what is
# missing makes tests skip.
set -u

say() { echo "prepare: $*" >&2; }

# have_onnx_testdata: ONNX's official node tests, from Debian's libonnx-testdata.
have_onnx_testdata() {
	command -v dpkg >/dev/null && dpkg -s libonnx-testdata >/dev/null 2>&1
}

# The servers that lookups are tested against; test/servers starts them.
have_redis() { command -v redis-server >/dev/null; }
have_postgres() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

updated=
# install PACKAGE: from Debian, where we may.
install() {
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		say "NOT INSTALLED: $1 (needs root and apt-get)"
		return
	fi
	local log
	log=$(mktemp)
	if [ -z "$updated" ]; then
		timeout 60 apt-get -q -y update >"$log" 2>&1 </dev/null
		updated=yes
	fi
	if DEBIAN_FRONTEND=noninteractive timeout 180 apt-get -q -y install --no-install-recommends "$1" >>"$log" 2>&1 </dev/null; then
		say "installed $1"
	else
		say "NOT INSTALLED: $1 (apt-get: $(tail -n 1 "$log"))"
	fi
	rm -f "$log"
}

have_onnx_testdata || install libonnx-testdata
have_redis || install redis-server
have_postgres || install postgresql

# Feast comes from PyPI, into an environment of its own outside of the project.
feast_version=0.67.0
feast=${FRESHET_FEAST:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/feast}
have_feast() { [ -x "$feast/bin/feast" ]; }
if ! have_feast && [ -z "${FRESHET_FEAST:-}" ]; then
	log=$(mktemp)
	if { python3 -m venv "$feast" && timeout 180 "$feast/bin/python" -m pip install -q --disable-pip-version-check "feast==$feast_version"; } >"$log" 2>&1 </dev/null && have_feast; then
		say "installed Feast $feast_version in $feast"
	else
		say "NOT INSTALLED: Feast $feast_version (within 3 minutes, with python3 and pip: $(tail -n 1 "$log"))"
		rm -rf "$feast"
	fi
	rm -f "$log"
fi

# A Python with pandas and pyarrow, for the test that reads an export with them.
python="${XDG_CACHE_HOME:-$HOME/.cache}/freshet/python"
have_pyarrow() {
	for p in "${FRESHET_PYTHON:-$python/bin/python3}" python3; do
		"$p" -c 'import pandas, pyarrow.dataset' >/dev/null 2>&1 && return 0
	done
	return 1
}

if ! have_pyarrow; then
	log=$(mktemp)
	if { python3 -m venv "$python" && timeout 300 "$python/bin/pip" install -q pandas==3.1.1 pyarrow==26.0.1; } >"$log" 2>&1 </dev/null; then
		say "installed pandas and pyarrow into $python"
	else
		say "NOT INSTALLED: pandas and pyarrow ($(tail -n 1 "$log"))"
	fi
	rm -f "$log"
fi

# An S3 server, built from its Go module into a cache folder.
if ! log=$(timeout 240 test/servers/s3.sh build 2>&1 </dev/null); then
	say "NOT BUILT: an S3 server ($(tail -n 1 <<<"$log"))"
fi
have_s3() { timeout 20 test/servers/s3.sh </dev/null >/dev/null 2>&1; }

found=()
have_onnx_testdata && found+=(onnx-testdata)
command -v curl >/dev/null && found+=(curl)
have_redis && found+=(redis)
have_postgres && found+=(postgres)
have_feast && found+=(feast)
have_pyarrow && found+=(pyarrow)
have_s3 && found+=(s3)
# The public data sets are not part of the project; where they lie beside it the tests read them.
[ -d "${FRESHET_SHARED_DATA:-../shared/data}/card-fraud" ] && found+=(data)
(
	IFS=,
	echo "${found[*]-}"
)
