// Package redis keeps the newest result of each key in Redis or Valkey, for
// applications and lookups to read.
//
//	redis://user@host:6379/0?prefix=scores:&keep=hash&ttl=24h&password_env=REDIS_PASSWORD
//
// A result goes to the key that is the prefix followed by the record's key, or,
// with by=id, by its id. With keep=hash it is a hash: one field for each member
// of the JSON object, strings without quotes, numbers and booleans as they are
// written, objects and lists as JSON; null members are left out. With
// keep=string it is the record's value as it is.
//
// # Guarantee
//
// Each result has a version: the time of its event (the member "time" of the
// JSON or the CloudEvents time, as RFC 3339; else when its record was stored on
// its topic), then its id. It is kept in the
// hash's field "_version", or beside a string in the key with ":version" behind
// it. One script compares and writes a batch of up to 1,000 results at once; a
// result is written where its version is greater than that of the one there,
// whole: fields of the result before do not stay. So an older result never
// replaces a newer one, and one sent again changes nothing, whatever is sent
// side by side or repeated. Results without a time come before all with one, and
// among themselves the greater id stays.
//
// Send returns nil when the server has answered: what that is worth on disk is
// the server's appendfsync. A key that has expired (ttl) has forgotten its version.
//
// Refused, with the others of the batch taken, is a record without a key (or id),
// and with keep=hash one whose value is no JSON object or has a member "_version".
//
// # Options of the URL
//
// keep=hash|string, by=key|id, prefix, ttl (none keeps for ever), timeout (10s),
// and those of package internal/endpoint for users, passwords and TLS; rediss://
// and redis+tls:// encrypt. A user needs +evalsha +eval +hget +hset +get +set
// +strlen +del +pexpire on the prefix, +@connection, and +select for a database.
// Redis Cluster is Unsupported.
package redis
