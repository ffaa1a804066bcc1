// The API server of Kubernetes as its own project builds it, so that tests of
// actuators talk to the real thing. It needs etcd; ../kubernetes.sh starts both.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
