// Package console is the HTTP face of a running Freshet: events in, records
// out, the state of topics, health and metrics. docs/http-api.md describes it
// for its users.
//
// What POST acknowledges is durable. Streams keep the order of each partition,
// hold at most one batch of each partition in memory, and end with their
// client. Serve stops in order: no new connections, streams ended, requests in
// progress answered.
//
// A server without a token answers only requests addressed to a loopback name
// that do not come from a foreign web page; CheckListen refuses to offer one to
// anybody else in the first place. With secrets for webhooks, no body whose
// signature is not right reaches a topic.
package console
