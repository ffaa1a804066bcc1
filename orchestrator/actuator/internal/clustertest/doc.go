// Package clustertest has the clusters that tests of the actuators of Kubernetes run on: one
// made of client-go's fake client, and a real API server. Both can refuse, fail and lie.
package clustertest
