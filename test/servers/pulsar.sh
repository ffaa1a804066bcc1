#!/usr/bin/env bash
# Apache Pulsar from its Maven artifacts, on the machine's Java (17 or later): broker and
# bookie in one process, as "pulsar standalone" runs them, without functions and streams.
#
#	pulsar.sh [plain]     everybody may do everything
#	pulsar.sh secure DIR  demands credentials. DIR holds ca.pem, cert.pem and key.pem (PKCS 8) of
#	                      the server, secret.key that signs tokens, admin.token, and htpasswd.
#	pulsar.sh plain advertise=HOST:PORT   with a proxy before its listener "proxied"
#	pulsar.sh install     fetches the artifacts into the cache (190 MB, once)
#	pulsar.sh present     exits with 0 where it can start
#
# It prints "ready HOST:PORT admin=HOST:PORT [tls=HOST:PORT admin_tls=HOST:PORT]".
set -u
version=4.0.7
here=$(cd "$(dirname "$0")" && pwd)
cache=${FRESHET_PULSAR:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/pulsar-$version}

present() {
	command -v java >/dev/null || { echo "no Java here to run Pulsar with" >&2; return 1; }
	[ -e "$cache/complete" ] || { echo "Pulsar $version is not in $cache: run test/servers/pulsar.sh install" >&2; return 1; }
}

install() {
	[ -e "$cache/complete" ] && return
	command -v mvn >/dev/null || { echo "no Maven here to fetch Pulsar with" >&2; return 1; }
	local into
	into=$(mktemp -d "${TMPDIR:-/tmp}/freshet-build.XXXXXX")
	trap "rm -rf '$into'" EXIT
	# Without what only functions on Kubernetes and gRPC tracing would need.
	cat >"$into/pom.xml" <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0">
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>io.freshet</groupId><artifactId>pulsar-server</artifactId><version>1</version>
		  <dependencies><dependency>
		    <groupId>org.apache.pulsar</groupId><artifactId>pulsar-broker</artifactId><version>$version</version>
		    <exclusions>
		      <exclusion><groupId>io.kubernetes</groupId><artifactId>*</artifactId></exclusion>
		      <exclusion><groupId>io.grpc</groupId><artifactId>grpc-netty-shaded</artifactId></exclusion>
		      <exclusion><groupId>io.grpc</groupId><artifactId>grpc-xds</artifactId></exclusion>
		      <exclusion><groupId>net.bytebuddy</groupId><artifactId>byte-buddy</artifactId></exclusion>
		    </exclusions>
		  </dependency></dependencies>
		</project>
	POM
	timeout 300 mvn -q -B -f "$into/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache" >&2 || return 1
	: >"$cache/complete"
}

mode=${1:-plain}
case $mode in
install) install; exit ;;
present) present; exit ;;
plain | secure) ;;
*) echo "usage: pulsar.sh [plain | secure DIR | install | present]" >&2; exit 2 ;;
esac
present || exit 3
. "$here/lib.sh"

port=$(free_port)
web=$(free_port)
bookie=$(free_port)
words=
cat >"$dir/standalone.conf" <<-CONF
	clusterName=standalone
	bindAddress=127.0.0.1
	advertisedAddress=127.0.0.1
	brokerServicePort=$port
	webServicePort=$web
	numIOThreads=2
	numHttpServerThreads=8
	managedLedgerCacheSizeMB=32
	managedLedgerDefaultEnsembleSize=1
	managedLedgerDefaultWriteQuorum=1
	managedLedgerDefaultAckQuorum=1
	brokerShutdownTimeoutMs=5000
CONF
if [ -n "$advertise" ]; then
	proxied=$(free_port)
	words=" proxied=127.0.0.1:$proxied"
	cat >>"$dir/standalone.conf" <<-CONF
		bindAddresses=proxied:pulsar://127.0.0.1:$proxied
		internalListenerName=internal
		advertisedListeners=internal:pulsar://127.0.0.1:$port,proxied:pulsar://$advertise
	CONF
fi
if [ "$mode" = secure ]; then
	secrets=${2:?pulsar.sh secure needs a folder with certificates and keys}
	tls=$(free_port)
	web_tls=$(free_port)
	words=" tls=127.0.0.1:$tls admin_tls=127.0.0.1:$web_tls"
	cat >>"$dir/standalone.conf" <<-CONF
		brokerServicePortTls=$tls
		webServicePortTls=$web_tls
		tlsCertificateFilePath=$secrets/cert.pem
		tlsKeyFilePath=$secrets/key.pem
		tlsTrustCertsFilePath=$secrets/ca.pem
		authenticationEnabled=true
		authenticationProviders=org.apache.pulsar.broker.authentication.AuthenticationProviderToken,org.apache.pulsar.broker.authentication.AuthenticationProviderBasic,org.apache.pulsar.broker.authentication.AuthenticationProviderTls
		tokenSecretKey=file://$secrets/secret.key
		basicAuthConf=file://$secrets/htpasswd
		authorizationEnabled=true
		superUserRoles=freshet
		brokerClientAuthenticationPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken
		brokerClientAuthenticationParameters=file://$secrets/admin.token
	CONF
fi
cat >"$dir/log4j2.xml" <<-XML
	<Configuration status="WARN">
	  <Appenders><Console name="out"><PatternLayout pattern="%d{ABSOLUTE} %p %c{1} %m%n"/></Console></Appenders>
	  <Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers>
	</Configuration>
XML

open=()
for package in java.base/java.io java.base/java.util.zip java.base/java.lang java.base/java.nio java.base/sun.net \
	java.base/jdk.internal.platform java.base/jdk.internal.misc java.management/sun.management jdk.management/com.sun.management.internal; do
	open+=(--add-opens "$package=ALL-UNNAMED")
done

launch() {
	java -Xms128m -Xmx400m -XX:MaxDirectMemorySize=256m -XX:+UseSerialGC ${FRESHET_PULSAR_JAVA:--XX:TieredStopAtLevel=1} \
		-XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true -Dio.netty.tryReflectionSetAccessible=true \
		-Dlog4j.configurationFile="$dir/log4j2.xml" "${open[@]}" -cp "$cache/*" \
		org.apache.pulsar.PulsarStandaloneStarter -c "$dir/standalone.conf" --no-functions-worker -nss \
		--metadata-dir "$dir/metadata" --bookkeeper-dir "$dir/bookkeeper" --bookkeeper-port "$bookie" -a 127.0.0.1 >>"$dir/log" 2>&1 </dev/null &
	server=$!
}

# answers asks for what a broker can say once it serves the namespace public/default.
answers() {
	local line header=
	[ "$mode" = secure ] && header="Authorization: Bearer $(cat "$secrets/admin.token")"$'\r\n'
	exec 3<>"/dev/tcp/127.0.0.1/$web" || return 1
	printf 'GET /admin/v2/%s HTTP/1.0\r\nHost: localhost\r\n%s\r\n' "$1" "$header" >&3
	read -r line <&3
	exec 3>&-
	[[ $line == *" 200 "* ]]
}
ready() { answers persistent/public/default && answers brokers/health; }

launch
serve "127.0.0.1:$port admin=127.0.0.1:$web$words" ready
