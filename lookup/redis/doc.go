// Package redis looks rows up in Redis, or in servers that speak its protocol:
// a row is a hash, its key the table's prefix followed by the key looked up.
//
// One Get is one pipeline of HMGET commands. A hash that has none of the
// fields counts as missing, because HMGET does not tell it from one that does
// not exist. A key that holds something else than a hash is an invalid row.
// Values are read as lookup.Rows.SetText says.
//
// Cluster mode is not supported: a key of another node is an Unsupported error.
package redis
