// Package scaledobject orders the bounds of a KEDA ScaledObject: the floor of a scaler that goes on
// above it, and its ceiling where that is wanted.
//
//	scaledobject://[CONTEXT@][NAMESPACE]/NAME?ceiling=1.5&kubeconfig=FILE&timeout=10s
//
// An order of n workers makes minReplicaCount n, and never less than the user's own. With the option
// ceiling, a factor of at least 1, it makes maxReplicaCount ceiling·n as well, rounded up, and never
// more than the user's own: 1 pins the number, 1.5 leaves half of it to the scaler, and without it
// the scaler may go as far as before. Package internal/cluster has the other options.
//
// More workers than the user's maxReplicaCount are refused (Config), and so is every order while an
// annotation of KEDA pauses the scaler.
//
// # Order of events
//
// Bounds and annotation (freshet.io/orders: what was found, what was set, the expiry) are one write
// with the resource version that was read, so there is no state in between. Revert restores each
// bound that is still what was set, leaves others alone, and removes the annotation in the same
// write. Bounds that are not what was set were written by someone else: Apply is a Conflict then.
//
// KEDA and the autoscaler behind it enforce the bounds whatever the metrics say. When this process dies
// they stay: the scaler goes on above the floor, and under the ceiling if one was ordered,
// until another process resumes or reverts. The expiry is in the annotation.
package scaledobject
