#!/usr/bin/env bash
# Publishes readings over MQTT and shows what is in PostgreSQL and Redis then.
. "$(dirname "$0")/../common.sh"
need mosquitto_pub mosquitto-clients
need psql postgresql-client
need redis-cli redis-tools
need curl curl

export MQTT_PASSWORD=freshet-test PGPASSWORD=freshet-test REDIS_PASSWORD=freshet-test
server mosquitto && export MOSQUITTO=$address
server postgres && export POSTGRES=$address
server redis && export REDIS=$address
start cold-stores run "$here/pipeline.yaml" --data "$work/data"

sql() { psql -X -h "${POSTGRES%:*}" -p "${POSTGRES#*:}" -U freshet -d freshet "$@"; }
cache() { redis-cli --no-auth-warning -h "${REDIS%:*}" -p "${REDIS#*:}" -a "$REDIS_PASSWORD" "$@"; }

for store in north south; do
	grep "\"store\":\"$store\"" "$here/readings.jsonl" |
		mosquitto_pub -V 5 -q 1 -h "${MOSQUITTO%:*}" -p "${MOSQUITTO#*:}" -u freshet -P "$MQTT_PASSWORD" -t "stores/$store/temperature" -l
done
echo "published $(wc -l <"$here/readings.jsonl") readings, one of which is no number"

everywhere() {
	[ "$(sql -Atc 'SELECT count(*) FROM temperatures')" = 40 ] &&
		[ "$(cache hget store:north source_id)" = north-20 ] && [ "$(cache hget store:south source_id)" = south-20 ]
}
await "the results are not there" "$work/cold-stores.log" "${processes[-1]}" everywhere

echo "--- PostgreSQL: the alarms"
sql -c "SELECT source_id, time, route, round((payload->'features'->>'mean_10m')::numeric, 2) AS mean_10m FROM temperatures WHERE route = 'warm' ORDER BY time"
echo "--- Redis: the newest of each store"
for store in north south; do
	echo "store:$store" $(cache hmget "store:$store" source_id route features)
done
echo "--- dead letters"
curl -fs "$url/topics/cold-stores-dead-letters"
finish cold-stores
