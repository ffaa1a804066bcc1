// Package cluster is what the actuators of Kubernetes share: how a URL says which cluster and
// which object, who asks, what errors mean, and the annotation by which orders are
// remembered on the object that they change.
//
//	SCHEME://[CONTEXT@][NAMESPACE]/…?kubeconfig=FILE&timeout=10s
//
// Options of every URL:
//
//	kubeconfig  a file; otherwise $KUBECONFIG, the service account of the pod that this runs in,
//	            or ~/.kube/config, the first that is there
//	context     the same as CONTEXT@, for names with a / or : in them
//	timeout     of one call, its requests together; 10 s
//
// Without a namespace it is the context's, or the pod's own.
package cluster
