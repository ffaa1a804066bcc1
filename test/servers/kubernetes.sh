#!/usr/bin/env bash
# The API server of Kubernetes with an etcd of its own: what clients see of a
# cluster, without controllers and nodes. The API server is built from its module,
# at the version that kubernetes/go.mod names; etcd is Debian's etcd-server; the
# definition of ScaledObject is KEDA's, from the version below.
#
#	kubernetes.sh [one]     starts both
#	kubernetes.sh build     builds and installs; minutes, the first time
#	kubernetes.sh install   the same where FRESHET_HEAVY is set, as plain runs of the tests do without
#	kubernetes.sh present   exits with 0 where it can start
#
# It prints folder=FOLDER behind the address; a kubeconfig with the contexts admin,
# freshet (a user with no rights but those that a test gives it) and nobody lies there, with
# scaledobjects.yaml, KEDA's definition. The commands on stdin are about the API server.
set -u
here=$(cd "$(dirname "$0")" && pwd)
keda=v2.21.0
version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/kubernetes/go.mod")
cache=${FRESHET_KUBERNETES:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/kubernetes-$version}

build() {
	[ -x "$cache/kube-apiserver" ] && [ -f "$cache/scaledobjects-$keda.yaml" ] && return
	command -v go >/dev/null || { echo "no Go here to build the API server with" >&2; return 1; }
	mkdir -p "$cache"
	local module minor
	module=$(cd "$here/kubernetes" && GOFLAGS=-mod=mod go mod download -json "github.com/kedacore/keda/v2@$keda" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	install -m 644 "$module/config/crd/bases/keda.sh_scaledobjects.yaml" "$cache/scaledobjects-$keda.yaml" || return 1
	[ -x "$cache/kube-apiserver" ] && return
	minor=${version#v1.}
	(cd "$here/kubernetes" && CGO_ENABLED=0 nice go build -trimpath -o "$cache/kube-apiserver.$$" -ldflags "-s -w \
		-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 \
		-X k8s.io/component-base/version.gitMinor=${minor%%.*}" .) >&2 && mv "$cache/kube-apiserver.$$" "$cache/kube-apiserver"
}

case ${1:-one} in
install | build)
	if [ "$1" = install ] && [ -z "${FRESHET_HEAVY:-}" ]; then
		echo "building it takes minutes: test/servers/kubernetes.sh build" >&2
		exit 1
	fi
	command -v etcd >/dev/null || flock /tmp/apt.lock apt-get install -y --no-install-recommends etcd-server || exit 1
	build
	exit
	;;
present) [ -x "$cache/kube-apiserver" ] && command -v etcd >/dev/null && exit 0 || exit 3 ;;
one) ;;
*) echo "usage: kubernetes.sh [one | build | install | present]" >&2; exit 2 ;;
esac
[ -x "$cache/kube-apiserver" ] || { echo "the API server of Kubernetes $version is not built in $cache" >&2; exit 3; }
command -v etcd >/dev/null || { echo "etcd is not installed" >&2; exit 3; }
. "$here/lib.sh"

port=$(free_port) store=$(free_port) peers=$(free_port)
etcd=
stop_both() {
	trap - EXIT INT TERM HUP
	if [ -n "$server" ]; then
		kill -CONT "$server" 2>/dev/null
		kill -KILL "$server" 2>/dev/null
		wait "$server" 2>/dev/null
	fi
	[ -n "$etcd" ] && kill -KILL "$etcd" 2>/dev/null && wait "$etcd" 2>/dev/null
	rm -rf "$dir"
}
trap 'stop_both; exit 0' EXIT INT TERM HUP

# Tokens are as good as passwords: the server listens on the loopback interface only.
cat >"$dir/tokens.csv" <<-CSV
	admin-freshet-test,admin,1,"system:masters"
	freshet-test,freshet,2
	nobody-freshet-test,nobody,3
CSV
openssl genrsa -out "$dir/sa.key" 2048 2>"$dir/log" || { cat "$dir/log" >&2; exit 1; }
cp "$cache/scaledobjects-$keda.yaml" "$dir/scaledobjects.yaml"
{
	cat <<-YAML
		apiVersion: v1
		kind: Config
		current-context: freshet
		clusters: [{name: test, cluster: {server: "https://127.0.0.1:$port", certificate-authority: "$dir/certs/apiserver.crt"}}]
		users:
		- {name: admin, user: {token: admin-freshet-test}}
		- {name: freshet, user: {token: freshet-test}}
		- {name: nobody, user: {token: nobody-freshet-test}}
		contexts:
	YAML
	for who in admin freshet nobody; do echo "- {name: $who, context: {cluster: test, user: $who}}"; done
} >"$dir/kubeconfig"

# Nothing of a test's data must outlive a crash of the machine.
etcd --name one --data-dir "$dir/etcd" --unsafe-no-fsync --log-level error \
	--listen-client-urls "http://127.0.0.1:$store" --advertise-client-urls "http://127.0.0.1:$store" \
	--listen-peer-urls "http://127.0.0.1:$peers" --initial-advertise-peer-urls "http://127.0.0.1:$peers" \
	--initial-cluster "one=http://127.0.0.1:$peers" >"$dir/etcd.log" 2>&1 </dev/null &
etcd=$!

launch() {
	"$cache/kube-apiserver" --etcd-servers "http://127.0.0.1:$store" --bind-address 127.0.0.1 --secure-port "$port" \
		--cert-dir "$dir/certs" --token-auth-file "$dir/tokens.csv" --authorization-mode RBAC \
		--service-account-issuer https://kubernetes.default.svc --service-account-key-file "$dir/sa.key" \
		--service-account-signing-key-file "$dir/sa.key" --service-cluster-ip-range 10.0.0.0/24 \
		--disable-admission-plugins ServiceAccount --enable-priority-and-fairness=false --v 0 >>"$dir/log" 2>&1 </dev/null &
	server=$!
}
launch
answers() {
	printf 'GET /readyz HTTP/1.0\r\nAuthorization: Bearer admin-freshet-test\r\n\r\n' |
		timeout 5 openssl s_client -quiet -no_ign_eof -connect "127.0.0.1:$port" -CAfile "$dir/certs/apiserver.crt" 2>/dev/null | grep -q ' 200 OK'
}
serve "127.0.0.1:$port folder=$dir" answers
stop_both
