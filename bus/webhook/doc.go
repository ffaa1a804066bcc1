// Package webhook sends results to an HTTP endpoint as CloudEvents.
//
//	https://host/path?mode=batched&token_env=TOKEN&secret_file=/run/secrets/webhook
//
// It serves Knative brokers and sinks (mode=binary), custom topics of Azure Event Grid
// (mode=batched, header_env=HEADER with "aeg-sas-key: KEY"), and any endpoint that takes
// what EventBridge's API destinations, Event Grid or Knative would send it.
//
// The order of events of a Send: its records are spread over lanes by their keys; a lane sends one
// request after another, each when the one before was answered with 2xx, so that records of one key
// arrive in order; Send returns when all were. An endpoint that answers 2xx has the
// events for good. After an error all are sent again, with the same IDs, by which the receiver tells repeats.
//
// # Answers
//
//	2xx                      taken
//	408, 425, 429, 5xx       Transient, or Throttled for 429 and 503; Retry-After is kept, up to 5 minutes
//	401, 403, 407, 405, 3xx  Config; redirects are followed within the host alone, by 307 and 308
//	404                      NotFound
//	410                      Permanent: the endpoint wants no more
//	other 4xx                the event is refused; of several in one request those at fault are found by halves
//
// # Modes
//
// binary (one request an event, attributes in ce-* headers), structured (one request an event, as JSON) or batched
// (a JSON array of up to batch events, of up to 1 MiB). A record that is no CloudEvent gets what it lacks: the source "/" and
// the type "freshet.record". Headers that are no attributes are left out, but for traceparent and tracestate.
//
// # Security
//
// token: Authorization: Bearer. A user and password: basic. header: a header of one's own. All of
// token, secret, header and query come from NAME_file or NAME_env; query is put behind the URL, whose own
// query holds the options here.
//
// secret: requests are signed as Standard Webhooks (standardwebhooks.com) says: webhook-id, webhook-timestamp and
// webhook-signature, HMAC-SHA256 of ID.TIMESTAMP.BODY. A secret that begins with whsec_ is Base64 behind it. In binary mode the
// attributes are not in the body and so not signed. webhook-id is the event's ID, or of a batch a hash of all; it stays at repeats.
//
// origin: the endpoint is first asked, with OPTIONS and WebHook-Request-Origin, whether it wants events from there, as
// CloudEvents' "HTTP 1.1 Web Hooks for Event Delivery" says. Without WebHook-Allowed-Origin: Config. What WebHook-Allowed-Rate says, in
// requests a minute, is kept.
//
// # Options
//
// mode, batch (100), concurrency (8 requests in flight), timeout (10s a request), origin, and the secrets above
// and those of package endpoint. https encrypts.
package webhook
