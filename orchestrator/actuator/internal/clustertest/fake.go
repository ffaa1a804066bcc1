package clustertest

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/freshet-io/freshet/orchestrator/actuator/internal/cluster"
)

// NewFake returns a cluster made of client-go's fake client, with what that leaves out: resource versions
// and the scale subresource.
func NewFake(testing.TB) *Cluster {
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		Deployments: "DeploymentList", Workers: "WorkerList", Autoscalers: "HorizontalPodAutoscalerList", ScaledObjects: "ScaledObjectList",
	})
	f := &fakeServer{tracker: client.Tracker(), faults: &faults{}}
	client.PrependReactor("get", "*", f.read)
	client.PrependReactor("patch", "*", f.patch)
	return &Cluster{
		Namespace: f.namespace(), Options: cluster.Options{Client: client}, admin: f, faults: f.faults,
		hide: func() {
			client.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", nil)
			})
		},
	}
}

type fakeServer struct {
	mu      sync.Mutex
	tracker clienttesting.ObjectTracker
	version int
	faults  *faults
}

func (f *fakeServer) namespace() string { return "test" }

func (f *fakeServer) get(gvr schema.GroupVersionResource, name string) (*unstructured.Unstructured, error) {
	obj, err := f.tracker.Get(gvr, f.namespace(), name)
	if err != nil {
		return nil, err
	}
	return obj.(*unstructured.Unstructured), nil
}

func (f *fakeServer) stamp(obj *unstructured.Unstructured) {
	f.version++
	obj.SetResourceVersion(strconv.Itoa(f.version))
}

func (f *fakeServer) create(gvr schema.GroupVersionResource, obj *unstructured.Unstructured) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stamp(obj)
	return f.tracker.Create(gvr, obj, f.namespace())
}

func (f *fakeServer) remove(gvr schema.GroupVersionResource, name string) error {
	return f.tracker.Delete(gvr, f.namespace(), name)
}

func (f *fakeServer) merge(gvr schema.GroupVersionResource, name string, patch []byte, _ ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.store(gvr, name, patch, false)
	return err
}

// store merges a patch into an object, if its resource version is that of the object.
func (f *fakeServer) store(gvr schema.GroupVersionResource, name string, patch []byte, dry bool) (*unstructured.Unstructured, error) {
	obj, err := f.get(gvr, name)
	if err != nil {
		return nil, err
	}
	before := obj.GetResourceVersion()
	var fields map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	mergeInto(obj.Object, fields)
	if obj.GetResourceVersion() != before {
		return nil, apierrors.NewConflict(gvr.GroupResource(), name, nil)
	}
	b, err := obj.MarshalJSON()
	if err != nil {
		return nil, err
	}
	after := &unstructured.Unstructured{}
	if err := after.UnmarshalJSON(b); err != nil {
		return nil, err
	}
	if dry {
		return after, nil
	}
	f.stamp(after)
	return after, f.tracker.Update(gvr, after, f.namespace())
}

func mergeInto(to, from map[string]any) {
	for k, v := range from {
		switch v := v.(type) {
		case nil:
			delete(to, k)
		case map[string]any:
			sub, ok := to[k].(map[string]any)
			if !ok {
				sub = map[string]any{}
				to[k] = sub
			}
			mergeInto(sub, v)
		default:
			to[k] = v
		}
	}
}

// scaleOf is the scale subresource of an object.
func scaleOf(obj *unstructured.Unstructured) *unstructured.Unstructured {
	s := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "autoscaling/v1", "kind": "Scale"}}
	s.SetName(obj.GetName())
	s.SetResourceVersion(obj.GetResourceVersion())
	for _, path := range []string{"spec", "status"} {
		if n, ok := cluster.Number(obj, path, "replicas"); ok {
			s.Object[path] = map[string]any{"replicas": int64(n)}
		}
	}
	return s
}

func (f *fakeServer) read(a clienttesting.Action) (bool, runtime.Object, error) {
	if a.GetSubresource() != "scale" {
		return false, nil, nil
	}
	obj, err := f.get(a.GetResource(), a.(clienttesting.GetAction).GetName())
	if err != nil {
		return true, nil, err
	}
	return true, scaleOf(obj), nil
}

func (f *fakeServer) patch(a clienttesting.Action) (bool, runtime.Object, error) {
	p := a.(clienttesting.PatchAction)
	gvr, name := a.GetResource(), p.GetName()
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.faults.write()
	switch o {
	case refuse:
		return true, nil, apierrors.NewForbidden(gvr.GroupResource(), name, nil)
	case fail:
		return true, nil, apierrors.NewServiceUnavailable("the test says so")
	}
	if f.late() {
		return true, nil, apierrors.NewConflict(gvr.GroupResource(), name, nil)
	}
	obj, err := f.store(gvr, name, p.GetPatch(), o == lie)
	if err != nil {
		return true, nil, err
	}
	if strings.HasPrefix(a.GetSubresource(), "scale") {
		obj = scaleOf(obj)
	}
	return true, obj, nil
}

// late makes one write in eight come too late, as on a cluster that is busy.
func (f *fakeServer) late() bool {
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	f.version++
	return f.version%8 == 0 && !f.faults.broken
}
