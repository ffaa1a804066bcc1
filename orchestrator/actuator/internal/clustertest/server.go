package clustertest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/freshet-io/freshet/test/servers"
)

// Start starts a real API server for the rest of the test, with KEDA's definition of ScaledObject, the
// custom resource Worker, and the user freshet, who has the rights that the documentation asks for.
func Start(t testing.TB) *Cluster {
	t.Helper()
	s := servers.Run(t, "kubernetes")
	folder := s.Word("folder")
	kube := filepath.Join(folder, "kubeconfig")
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: kube},
		&clientcmd.ConfigOverrides{CurrentContext: "admin"}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst = 1000, 1000
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	f := &faults{}
	r := &realServer{t: t, client: client}
	c := &Cluster{Namespace: "default", admin: r, faults: f, kube: kube}
	c.Options.Transport = func(next http.RoundTripper) http.RoundTripper { return &troubled{next: next, faults: f} }
	c.Freeze = func(t testing.TB) func() {
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
		thaw := sync.OnceFunc(func() {
			if err := s.Resume(); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(thaw)
		r.awaitSilence(t)
		return thaw
	}
	c.restart = func(t testing.TB, down func()) {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		down()
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	r.applyFile(filepath.Join(folder, "scaledobjects.yaml"))
	r.apply(workerDefinition)
	r.grant()
	for _, gvr := range []schema.GroupVersionResource{ScaledObjects, Workers} {
		r.await(gvr)
	}
	return c
}

// workerDefinition is a custom resource with a scale subresource.
const workerDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: workers.example.com}
spec:
  group: example.com
  names: {plural: workers, singular: worker, kind: Worker}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {replicas: {type: integer}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
`

// documents are the YAML documents of docs/orchestrator-kubernetes.md.
func documents(t testing.TB) (docs []*unstructured.Unstructured) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root(t), "docs", "orchestrator-kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(page), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for _, doc := range strings.Split(block, "\n---\n") {
			obj := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(doc), &obj.Object); err != nil {
				t.Fatalf("docs/orchestrator-kubernetes.md: %v\n%s", err, doc)
			}
			docs = append(docs, obj)
		}
	}
	return docs
}

// grant gives the user freshet the Roles of the documentation.
func (r *realServer) grant() {
	roles := 0
	for _, obj := range documents(r.t) {
		if obj.GetKind() == "Role" {
			roles++
			r.make(obj)
			r.apply(fmt.Sprintf(binding, obj.GetName(), obj.GetName()))
		}
	}
	if roles == 0 {
		r.t.Fatal("docs/orchestrator-kubernetes.md has no Role")
	}
	r.apply(workerRole)
	r.apply(fmt.Sprintf(binding, "workers", "workers"))
}

// Documentation lets the server judge the YAML of docs/orchestrator-kubernetes.md, unknown fields included.
func (c *Cluster) Documentation(t testing.TB) {
	t.Helper()
	r := c.admin.(*realServer)
	for _, obj := range documents(t) {
		if obj.GetKind() == "TriggerAuthentication" {
			continue // its definition is not installed
		}
		obj.SetNamespace(c.Namespace)
		obj.SetName("documented-" + c.Name(obj.GetName()))
		_, err := r.of(plural(obj)).Create(t.Context(), obj, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			t.Errorf("the %s %s: %v", obj.GetKind(), obj.GetName(), err)
		}
	}
}

func plural(obj *unstructured.Unstructured) schema.GroupVersionResource {
	k := obj.GroupVersionKind()
	return k.GroupVersion().WithResource(strings.ToLower(k.Kind) + "s")
}

const binding = `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %s, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %s}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: freshet}]
`

const workerRole = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: workers, namespace: default}
rules: [{apiGroups: [example.com], resources: [workers, workers/scale], verbs: [get, patch]}]
`

// root is the folder of the module.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above")
	return ""
}

type realServer struct {
	t      testing.TB
	client dynamic.Interface
}

func (r *realServer) of(gvr schema.GroupVersionResource) dynamic.ResourceInterface {
	return r.client.Resource(gvr).Namespace("default")
}

func (r *realServer) get(gvr schema.GroupVersionResource, name string) (*unstructured.Unstructured, error) {
	return r.of(gvr).Get(r.t.Context(), name, metav1.GetOptions{})
}

func (r *realServer) create(gvr schema.GroupVersionResource, obj *unstructured.Unstructured) error {
	_, err := r.of(gvr).Create(r.t.Context(), obj, metav1.CreateOptions{})
	return err
}

func (r *realServer) merge(gvr schema.GroupVersionResource, name string, patch []byte, sub ...string) error {
	_, err := r.of(gvr).Patch(r.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"}, sub...)
	return err
}

func (r *realServer) remove(gvr schema.GroupVersionResource, name string) error {
	return r.of(gvr).Delete(r.t.Context(), name, metav1.DeleteOptions{})
}

func (r *realServer) applyFile(path string) {
	r.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.apply(string(b))
}

// apply creates what a document describes.
func (r *realServer) apply(doc string) {
	r.t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(doc), &obj.Object); err != nil {
		r.t.Fatalf("%v\n%s", err, doc)
	}
	r.make(obj)
}

func (r *realServer) make(obj *unstructured.Unstructured) {
	r.t.Helper()
	var err error
	if obj.GetKind() == "CustomResourceDefinition" {
		_, err = r.client.Resource(plural(obj)).Create(r.t.Context(), obj, metav1.CreateOptions{})
	} else {
		obj.SetNamespace("default")
		_, err = r.of(plural(obj)).Create(r.t.Context(), obj, metav1.CreateOptions{})
	}
	if err != nil {
		r.t.Fatalf("create the %s %s: %v", obj.GetKind(), obj.GetName(), err)
	}
}

// awaitSilence waits until nothing is answered any more: on a busy machine a process that was told to stop its
// clock goes on for a moment.
func (r *realServer) awaitSilence(t testing.TB) {
	t.Helper()
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := r.of(Deployments).List(ctx, metav1.ListOptions{Limit: 1})
		cancel()
		if err != nil {
			return
		}
	}
	t.Fatal("the server was frozen and goes on answering")
}

// await waits until a custom resource is served.
func (r *realServer) await(gvr schema.GroupVersionResource) {
	r.t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := r.of(gvr).List(r.t.Context(), metav1.ListOptions{})
		if err == nil {
			return
		}
		select {
		case <-limit.C:
			r.t.Fatalf("%s is not served: %v", gvr.Resource, err)
		case <-tick.C:
		}
	}
}

// troubled brings troubles about between an adapter and the server.
type troubled struct {
	next   http.RoundTripper
	faults *faults
}

func (t *troubled) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPatch {
		return t.next.RoundTrip(r)
	}
	switch t.faults.write() {
	case refuse: // a user who may nothing; the server says so
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer nobody-freshet-test")
	case fail:
		body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"ServiceUnavailable","code":503,"message":"the test says so"}`
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader([]byte(body)))}, nil
	case lie: // the server answers as if it had done it
		r = r.Clone(r.Context())
		q := r.URL.Query()
		q.Set("dryRun", "All")
		r.URL.RawQuery = q.Encode()
	}
	return t.next.RoundTrip(r)
}
