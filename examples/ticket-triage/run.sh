#!/usr/bin/env bash
# Sorts and embeds made-up tickets, through the stand-in of this folder or, with
# LLM=HOST:PORT, through a server of language models that runs already.
. "$(dirname "$0")/../common.sh"

if [ -z "${LLM:-}" ]; then
	need go golang
	(cd "$root" && go build -o "$work/server" ./examples/ticket-triage/server) || fail "the stand-in does not build"
	"$work/server" -listen 127.0.0.1:0 >"$work/server.out" 2>"$work/server.log" &
	processes+=("$!")
	await "the stand-in has not started" "$work/server.log" "$!" grep -q listening "$work/server.out"
	LLM=$(sed -n 's/listening on //p' "$work/server.out")
	echo "no LLM=HOST:PORT is set: a stand-in without a model answers at $LLM"
fi
export LLM TRIAGE_MODEL=${TRIAGE_MODEL:-keywords} EMBEDDING_MODEL=${EMBEDDING_MODEL:-bag-of-words}

if [ -z "${TICKETS:-}" ]; then
	need go golang
	(cd "$root" && go run ./examples/ticket-triage/tickets -n "${N:-240}") >"$work/tickets.jsonl"
	TICKETS=$work/tickets.jsonl
fi
data=$work/data
"$freshet" produce --data "$data" --pipeline "$here/pipeline.yaml" "$TICKETS"
"$freshet" run "$here/pipeline.yaml" --data "$data" --until-idle --listen 127.0.0.1:0 2>"$work/run.log" || {
	tail -n 20 "$work/run.log" >&2
	fail "freshet run failed"
}
"$freshet" consume --data "$data" triaged >"$work/triaged.jsonl"

count() { grep -o "$1" "$work/triaged.jsonl" | sort | uniq -c | sort -rn || true; }
echo "--- categories"
count '"category":"[a-z]*"'
echo "--- who answered the triage"
count '"triage":{"path":"[a-z_]*"'
echo "--- pages"
"$freshet" consume --data "$data" pages | sed -E 's/"embedding":\[[^]]*\]/"embedding":[…]/' | head -n 2
