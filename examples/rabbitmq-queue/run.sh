#!/usr/bin/env bash
# Puts orders into a queue of RabbitMQ and takes the results out of another.
. "$(dirname "$0")/../common.sh"
need curl curl
need go golang

export RABBITMQ_PASSWORD=freshet-test
echo "building the program that puts orders in and takes results out …"
queue=$work/rabbitmq-queue
(cd "$root" && go build -o "$queue" ./examples/rabbitmq-queue)
server rabbitmq amqp && export RABBITMQ=$address
start order-review run "$here/pipeline.yaml" --data "$work/data"

"$queue" put orders <"$here/orders.jsonl"
echo "put $(wc -l <"$here/orders.jsonl") orders into the queue orders"
"$queue" take reviewed-orders "$(wc -l <"$here/orders.jsonl")" >"$work/reviewed"
echo "--- the queue reviewed-orders had $(wc -l <"$work/reviewed") messages; to be looked at are"
grep '"route":"review"' "$work/reviewed"
finish order-review
