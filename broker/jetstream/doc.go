// Package jetstream carries topics on NATS JetStream.
package jetstream
