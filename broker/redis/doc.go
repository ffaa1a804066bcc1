// Package redis is a broker on Redis Streams.
package redis
