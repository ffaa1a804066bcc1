#!/usr/bin/env bash
# Apache Kafka from its Maven artifacts, on the machine's Java (17 or later), in KRaft mode.
#
#	kafka.sh [one]        one node
#	kafka.sh cluster      three nodes, topics with three replicas of which two must be in sync
#	kafka.sh secure DIR   one node with listeners that demand TLS, a client's certificate or SASL.
#	                      DIR holds ca.pem, and server.pem with the server's key and certificate.
#	kafka.sh one advertise=HOST:PORT   one node with a proxy before its listener "proxied"
#	kafka.sh install      fetches the artifacts into the cache (43 MB, once)
#	kafka.sh present      exits with 0 where it can start
#
# It prints "ready HOST:PORT[,HOST:PORT…] [NAME=HOST:PORT …]". The secure one names the
# listeners tls, mtls, sasl, and sasl_tls; its user is "freshet" with the password
# "freshet-test" for PLAIN and both SCRAMs, and OAUTHBEARER takes unsigned tokens.
#
# The commands on stdin, see lib.sh, take the number of a node, 1 by default.
set -u
version=4.1.0
here=$(cd "$(dirname "$0")" && pwd)
cache=${FRESHET_KAFKA:-${XDG_CACHE_HOME:-$HOME/.cache}/freshet/kafka-$version}
classes=$cache/classes.jsa

present() {
	command -v java >/dev/null || { echo "no Java here to run Kafka with" >&2; return 1; }
	[ -e "$cache/complete" ] || { echo "Kafka $version is not in $cache: run test/servers/kafka.sh install" >&2; return 1; }
}

install() {
	fetch && archive
}

# archive keeps the loaded classes of a server that has started once, which halves
# the time that others take to start.
archive() {
	[ -e "$classes" ] && return
	echo stop | FRESHET_KAFKA_ARCHIVE=$classes.$$ timeout 120 bash "$0" one >&2 && mv "$classes.$$" "$classes"
}

fetch() {
	[ -e "$cache/complete" ] && return
	command -v mvn >/dev/null || { echo "no Maven here to fetch Kafka with" >&2; return 1; }
	local into
	into=$(mktemp -d "${TMPDIR:-/tmp}/freshet-build.XXXXXX")
	trap "rm -rf '$into'" EXIT
	cat >"$into/pom.xml" <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0">
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>io.freshet</groupId><artifactId>kafka-server</artifactId><version>1</version>
		  <dependencies>
		    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
		    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
		  </dependencies>
		</project>
	POM
	timeout 300 mvn -q -B -f "$into/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache" >&2 || return 1
	: >"$cache/complete"
}

mode=${1:-one}
case $mode in
install) install; exit ;;
present) present; exit ;;
one | cluster | secure) ;;
*) echo "usage: kafka.sh [one | cluster | secure DIR | install | present]" >&2; exit 2 ;;
esac
present || exit 3
. "$here/lib.sh"
trap 'stop_nodes; exit 0' EXIT INT TERM HUP

nodes=1
[ "$mode" = cluster ] && nodes=3
declare -a pid port controller
voters=
for n in $(seq $nodes); do
	port[n]=$(free_port)
	controller[n]=$(free_port)
	voters+=${voters:+,}$n@127.0.0.1:${controller[n]}
done
for name in tls mtls sasl sasl_tls proxied; do declare "$name=$(free_port)"; done
java=(java -Xmx400m -Xms64m -XX:+UseSerialGC ${FRESHET_KAFKA_JAVA:--XX:TieredStopAtLevel=1} -Djava.awt.headless=true
	-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$cache/*")
[ -e "$classes" ] && java+=(-XX:SharedArchiveFile="$classes")

stop_nodes() {
	trap - EXIT INT TERM HUP
	local n
	for n in $(seq $nodes); do
		[ -n "${pid[n]:-}" ] && kill -CONT "${pid[n]}" 2>/dev/null && kill -KILL "${pid[n]}" 2>/dev/null
	done
	wait
	rm -rf "$dir"
}

configure() {
	local n=$1
	local replicas=$((nodes < 3 ? 1 : 3)) insync=$((nodes < 3 ? 1 : 2))
	cat <<-CONF
		process.roles=broker,controller
		node.id=$n
		controller.quorum.voters=$voters
		controller.listener.names=CONTROLLER
		inter.broker.listener.name=PLAINTEXT
		log.dirs=$dir/data$n
		num.partitions=1
		default.replication.factor=$replicas
		min.insync.replicas=$insync
		offsets.topic.num.partitions=4
		offsets.topic.replication.factor=$replicas
		transaction.state.log.num.partitions=4
		transaction.state.log.replication.factor=$replicas
		transaction.state.log.min.isr=$insync
		share.coordinator.state.topic.replication.factor=$replicas
		share.coordinator.state.topic.min.isr=$insync
		group.initial.rebalance.delay.ms=0
		group.min.session.timeout.ms=500
		broker.session.timeout.ms=4000
		broker.heartbeat.interval.ms=1000
		num.network.threads=2
		num.io.threads=4
		log.cleaner.dedupe.buffer.size=8388608
		log.segment.delete.delay.ms=1000
	CONF
	if [ -n "$advertise" ]; then
		cat <<-CONF
			listeners=PLAINTEXT://127.0.0.1:${port[n]},PROXIED://127.0.0.1:$proxied,CONTROLLER://127.0.0.1:${controller[n]}
			advertised.listeners=PLAINTEXT://127.0.0.1:${port[n]},PROXIED://$advertise
			listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
		CONF
		return
	fi
	if [ "$mode" != secure ]; then
		cat <<-CONF
			listeners=PLAINTEXT://127.0.0.1:${port[n]},CONTROLLER://127.0.0.1:${controller[n]}
			listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
		CONF
		return
	fi
	cat <<-CONF
		listeners=PLAINTEXT://127.0.0.1:${port[n]},CONTROLLER://127.0.0.1:${controller[n]},TLS://127.0.0.1:$tls,MTLS://127.0.0.1:$mtls,SASL://127.0.0.1:$sasl,SASLTLS://127.0.0.1:$sasl_tls
		advertised.listeners=PLAINTEXT://127.0.0.1:${port[n]},TLS://127.0.0.1:$tls,MTLS://127.0.0.1:$mtls,SASL://127.0.0.1:$sasl,SASLTLS://127.0.0.1:$sasl_tls
		listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MTLS:SSL,SASL:SASL_PLAINTEXT,SASLTLS:SASL_SSL
		ssl.keystore.type=PEM
		ssl.keystore.location=$certificates/server.pem
		ssl.truststore.type=PEM
		ssl.truststore.location=$certificates/ca.pem
		listener.name.mtls.ssl.client.auth=required
		sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
	CONF
	local l plain='org.apache.kafka.common.security.plain.PlainLoginModule required user_freshet="freshet-test";'
	local scram='org.apache.kafka.common.security.scram.ScramLoginModule required;'
	local oauth='org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
	for l in sasl sasltls; do
		cat <<-CONF
			listener.name.$l.plain.sasl.jaas.config=$plain
			listener.name.$l.scram-sha-256.sasl.jaas.config=$scram
			listener.name.$l.scram-sha-512.sasl.jaas.config=$scram
			listener.name.$l.oauthbearer.sasl.jaas.config=$oauth
		CONF
	done
}

start_node() {
	local more=()
	[ -n "${FRESHET_KAFKA_ARCHIVE:-}" ] && more=(-XX:ArchiveClassesAtExit="$FRESHET_KAFKA_ARCHIVE")
	"${java[@]}" "${more[@]}" kafka.Kafka "$dir/node$1" >>"$dir/log" 2>&1 </dev/null &
	pid[$1]=$!
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

await_node() {
	for _ in $(seq 900); do
		answers "${port[$1]}" && return
		kill -0 "${pid[$1]}" 2>/dev/null || break
		sleep 0.1
	done
	echo "Kafka did not start:" >&2
	tail -n 30 "$dir/log" >&2
	return 1
}

certificates=${2:-}
scram=()
[ "$mode" = secure ] && scram=(--add-scram "SCRAM-SHA-256=[name=freshet,password=freshet-test]" --add-scram "SCRAM-SHA-512=[name=freshet,password=freshet-test]")
for n in $(seq $nodes); do
	configure "$n" >"$dir/node$n"
	"${java[@]}" kafka.tools.StorageTool format -t Zml4ZWQtY2x1c3Rlci1pZA -c "$dir/node$n" "${scram[@]}" >>"$dir/log" 2>&1 </dev/null || { tail -n 30 "$dir/log" >&2; stop_nodes; exit 1; }
done
for n in $(seq $nodes); do start_node "$n"; done
addresses=
for n in $(seq $nodes); do
	await_node "$n" || { stop_nodes; exit 1; }
	addresses+=${addresses:+,}127.0.0.1:${port[n]}
done
more=
[ -n "$advertise" ] && more=" proxied=127.0.0.1:$proxied"
[ "$mode" = secure ] && for l in tls mtls sasl sasl_tls; do more+=" $l=127.0.0.1:${!l}"; done
echo "ready $addresses$more"

end_node() {
	kill -CONT "${pid[$1]}" && kill -"$2" "${pid[$1]}" || return
	wait "${pid[$1]}" 2>/dev/null
	return 0
}

while read -r command n; do
	n=${n:-1}
	case $command in
	kill) end_node "$n" KILL ;;
	stop) end_node "$n" TERM ;;
	start) start_node "$n" && await_node "$n" ;;
	freeze) kill -STOP "${pid[n]}" ;;
	thaw) kill -CONT "${pid[n]}" ;;
	*) false ;;
	esac && echo done || echo "failed $command $n: $(tail -n 1 "$dir/log")"
done
