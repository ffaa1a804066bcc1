#!/usr/bin/env bash
# Sends CloudEvents over HTTP to a pipeline, which sends others to a receiver: a second freshet.
. "$(dirname "$0")/../common.sh"
need curl curl
need openssl openssl

WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)
export WEBHOOK_SECRET

"$freshet" topics create suspicions --partitions 1 --data "$work/receiver"
echo "$WEBHOOK_SECRET" >"$work/secret"
start receiver broker --data "$work/receiver" --webhook-secret-file "$work/secret" --webhook-origin login-guard.example.com
export RECEIVER=$url
start login-guard run "$here/pipeline.yaml" --data "$work/data"

echo "--- seven attempts to log in as one batch, and an eighth in binary mode"
curl -fsS -H 'Content-Type: application/cloudevents-batch+json' --data-binary "@$here/logins.json" "$url/topics/logins"
eighth() {
	curl -fsS -H 'Content-Type: application/json' -H 'ce-specversion: 1.0' -H 'ce-id: l-8' -H 'ce-source: /login/app' -H 'ce-type: com.example.login' \
		-H 'ce-time: 2026-11-01T08:01:03Z' -d '{"user": "bob", "ok": false, "address": "203.0.113.20"}' "$url/topics/logins"
}
eighth
echo "--- the eighth again, as a sender does whose answer was lost"
eighth

there() { [ "$(curl -fs "$RECEIVER/topics/suspicions" | wc -l)" = 2 ]; }
await "the suspicions have not reached the receiver" "$work/login-guard.log" "${processes[-1]}" there
echo "--- what the receiver has got"
curl -fsS "$RECEIVER/topics/suspicions?format=event"
echo "--- what it says to somebody without the secret"
curl -sS -H 'Content-Type: application/cloudevents+json' -d '{"specversion":"1.0","id":"x","source":"/","type":"x"}' "$RECEIVER/topics/suspicions"
finish login-guard
