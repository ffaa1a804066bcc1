#!/usr/bin/env bash
# Installs what optional tests need, by package name, where this machine is a
# Debian and we may; prints on stdout, comma-separated, what the tests can count
# on. Everything else it has to say goes to stderr. It never fails: what is
# missing makes tests skip.
set -u
cd "$(dirname "$0")/.." || exit 1

say() { echo "prepare: $*" >&2; }

# have_onnx_testdata: ONNX's official node tests, from Debian's libonnx-testdata.
have_onnx_testdata() {
	command -v dpkg >/dev/null && dpkg -s libonnx-testdata >/dev/null 2>&1
}

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

# The servers that adapters are tested against: each script of test/servers knows
# how to install its own. They do it beside each other; apt-get's take turns.
servers=()
for script in test/servers/*.sh; do
	name=$(basename "$script" .sh)
	[ "$name" = lib ] || servers+=("$name")
done
logs=$(mktemp -d)
for name in "${servers[@]}"; do
	bash "test/servers/$name.sh" present >/dev/null 2>&1 </dev/null && continue
	if [ "$(id -u)" = 0 ] && [ -z "$updated" ] && command -v apt-get >/dev/null; then
		timeout 60 apt-get -q -y update >/dev/null 2>&1 </dev/null
		updated=yes
	fi
	(
		if timeout 300 bash "test/servers/$name.sh" install >"$logs/$name" 2>&1 </dev/null && bash "test/servers/$name.sh" present >>"$logs/$name" 2>&1 </dev/null; then
			say "installed $name"
		else
			say "NOT INSTALLED: $name ($(tail -n 1 "$logs/$name"))"
		fi
	) &
done
wait
rm -rf "$logs"

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

found=()
have_onnx_testdata && found+=(onnx-testdata)
command -v curl >/dev/null && found+=(curl)
have_pyarrow && found+=(pyarrow)
for name in "${servers[@]}"; do
	bash "test/servers/$name.sh" present >/dev/null 2>&1 </dev/null && found+=("$name")
done
# The public data sets are not part of the project; where they lie beside it the tests read them.
[ -d "${FRESHET_SHARED_DATA:-../shared/data}/card-fraud" ] && found+=(data)
(
	IFS=,
	echo "${found[*]-}"
)
