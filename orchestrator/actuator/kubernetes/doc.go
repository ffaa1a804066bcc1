// Package kubernetes orders the number of pods of a workload by its scale subresource: a
// Deployment, a StatefulSet, or any custom resource that has one.
//
//	kubernetes://[CONTEXT@][NAMESPACE]/RESOURCE/NAME?kubeconfig=FILE&timeout=10s
//
// RESOURCE is deployments, statefulsets, replicasets, or RESOURCE.VERSION.GROUP such as
// rollouts.v1alpha1.argoproj.io. Package internal/cluster has the options.
//
// # Order of events
//
// Apply writes the annotation freshet.io/orders on the workload (the count found at the beginning, the one before these
// orders, the one ordered, the expiry), and then the count. Revert writes the count found at the
// beginning, and then removes the annotation. Each write carries the resource version that
// was read. So whoever comes later, another process too, finds what there is to take back,
// wherever the one before stopped.
//
// A count that is neither the ordered one nor the one before it was written by someone else: Apply is
// a Conflict then, and Revert leaves the count and removes the annotation. A count that was put back to
// the one before is told from an Apply that stopped halfway only once the orders have been
// given again.
//
// # What it does not do
//
// A HorizontalPodAutoscaler or a ScaledObject on the same workload would undo every order: Status notes it, Apply
// refuses (Config), and Revert leaves the count to it. Package scaledobject is for workloads that have one.
//
// The cluster does not end orders by itself: the count stays when this process dies, until another
// one resumes or reverts. The expiry is in the annotation.
package kubernetes
