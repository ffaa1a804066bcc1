package clustertest

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/freshet-io/freshet/orchestrator/actuator/internal/cluster"
)

// Resources that tests use.
var (
	Deployments   = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	Workers       = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "workers"}
	Autoscalers   = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
	ScaledObjects = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}
)

// Cluster is a cluster with one namespace. Its methods act as an administrator.
type Cluster struct {
	// Namespace is where everything lies.
	Namespace string
	// Options are those that make adapters talk to it.
	Options cluster.Options
	// Freeze lets the server keep connections and answer nothing until thaw is called; nil of fakes.
	Freeze func(t testing.TB) (thaw func())

	admin   admin
	faults  *faults
	restart func(t testing.TB, down func())
	hide    func()
	kube    string // the kubeconfig
	names   atomic.Int32
}

type admin interface {
	get(gvr schema.GroupVersionResource, name string) (*unstructured.Unstructured, error)
	create(gvr schema.GroupVersionResource, obj *unstructured.Unstructured) error
	merge(gvr schema.GroupVersionResource, name string, patch []byte, sub ...string) error
	remove(gvr schema.GroupVersionResource, name string) error
}

// faults are the troubles that requests of adapters meet.
type faults struct {
	mu                    sync.Mutex
	refused, broken, lies bool
	left                  int // writes until they break
}

// outcome of one write.
type outcome int

const (
	pass outcome = iota
	refuse
	fail
	lie
)

func (f *faults) write() outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.refused:
		return refuse
	case f.broken && f.left <= 0:
		return fail
	case f.lies:
		return lie
	}
	f.left--
	return pass
}

func (f *faults) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// Lie makes writes be accepted and not be stored, until the test ends.
func (c *Cluster) Lie(t testing.TB) {
	c.faults.set(func() { c.faults.lies = true })
	t.Cleanup(func() { c.faults.set(func() { c.faults.lies = false }) })
}

// Refuse takes the right to write away, and gives it back.
func (c *Cluster) Refuse(_ testing.TB, on bool) { c.faults.set(func() { c.faults.refused = on }) }

// Break makes writes fail once so many more have gone through, until Mend.
func (c *Cluster) Break(_ testing.TB, after int) {
	c.faults.set(func() { c.faults.broken, c.faults.left = true, after })
}

// Mend ends what Break began.
func (c *Cluster) Mend(testing.TB) { c.faults.set(func() { c.faults.broken = false }) }

// Restart ends the API server as kill -9 does, calls down, and starts it again.
func (c *Cluster) Restart(t testing.TB, down func()) {
	t.Helper()
	c.restart(t, down)
}

// HideScalers takes the adapters' right to list anything away. Of fakes only.
func (c *Cluster) HideScalers() { c.hide() }

// URL is that of an object: SCHEME://NAMESPACE/PATH, with what else is needed.
func (c *Cluster) URL(scheme, path, options string) string {
	u := scheme + "://" + c.Namespace + "/" + path
	if c.kube != "" {
		u += "?kubeconfig=" + c.kube
		if options != "" {
			options = "&" + options
		}
	} else if options != "" {
		options = "?" + options
	}
	return u + options
}

// Name is one that nobody has.
func (c *Cluster) Name(prefix string) string { return fmt.Sprintf("%s-%d", prefix, c.names.Add(1)) }

// Create makes an object.
func (c *Cluster) Create(t testing.TB, gvr schema.GroupVersionResource, kind, name string, fields map[string]any) {
	t.Helper()
	// By way of JSON, as all numbers come from a server.
	obj := fields
	obj["apiVersion"], obj["kind"] = gvr.GroupVersion().String(), kind
	obj["metadata"] = map[string]any{"name": name, "namespace": c.Namespace}
	b, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	if err := c.admin.create(gvr, &u); err != nil {
		t.Fatalf("create %s %s: %v", gvr.Resource, name, err)
	}
}

// Deployment makes a Deployment of n pods.
func (c *Cluster) Deployment(t testing.TB, name string, n int) {
	t.Helper()
	labels := map[string]any{"app": name}
	c.Create(t, Deployments, "Deployment", name, map[string]any{"spec": map[string]any{
		"replicas": n,
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "freshet", "image": "freshet"}}},
		},
	}})
}

// Get reads an object.
func (c *Cluster) Get(t testing.TB, gvr schema.GroupVersionResource, name string) *unstructured.Unstructured {
	t.Helper()
	obj, err := c.admin.get(gvr, name)
	if err != nil {
		t.Fatalf("get %s %s: %v", gvr.Resource, name, err)
	}
	return obj
}

// Merge merges fields into an object.
func (c *Cluster) Merge(t testing.TB, gvr schema.GroupVersionResource, name string, fields map[string]any, sub ...string) {
	t.Helper()
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.admin.merge(gvr, name, b, sub...); err != nil {
		t.Fatalf("patch %s %s: %v", gvr.Resource, name, err)
	}
}

// Remove deletes an object.
func (c *Cluster) Remove(t testing.TB, gvr schema.GroupVersionResource, name string) {
	t.Helper()
	if err := c.admin.remove(gvr, name); err != nil {
		t.Fatalf("delete %s %s: %v", gvr.Resource, name, err)
	}
}

// Replicas is the count that a workload should have.
func (c *Cluster) Replicas(t testing.TB, gvr schema.GroupVersionResource, name string) int {
	t.Helper()
	n, _ := cluster.Number(c.Get(t, gvr, name), "spec", "replicas")
	return n
}

// Work makes the pods of a workload ready, as its controller does.
func (c *Cluster) Work(t testing.TB, gvr schema.GroupVersionResource, name string) {
	t.Helper()
	n := c.Replicas(t, gvr, name)
	c.Merge(t, gvr, name, map[string]any{"status": map[string]any{
		"replicas": n, "readyReplicas": n, "updatedReplicas": n, "availableReplicas": n, "observedGeneration": 1,
	}}, "status")
}

// Annotations reads the annotations of an object.
func (c *Cluster) Annotations(t testing.TB, gvr schema.GroupVersionResource, name string) string {
	t.Helper()
	return fmt.Sprint(len(c.Get(t, gvr, name).GetAnnotations()), c.Get(t, gvr, name).GetAnnotations())
}
