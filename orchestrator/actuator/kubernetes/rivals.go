package kubernetes

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator/actuator/internal/cluster"
)

// scalers are what may scale a workload, with the fields that say which. A cluster may be without the second.
var scalers = []struct {
	kind     string
	resource schema.GroupVersionResource
}{
	{"HorizontalPodAutoscaler", schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}},
	{"ScaledObject", schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}},
}

// rivals are others who scale the workload.
type rivals struct {
	names  []string
	hidden []string // kinds that this process may not list
}

func (r *rivals) note() string {
	var s string
	if len(r.names) > 0 {
		s = "it is scaled by " + strings.Join(r.names, " and ")
	}
	if len(r.hidden) > 0 {
		s = join(s, "whether a "+strings.Join(r.hidden, " or a ")+" scales it as well is not known: this process may not list them")
	}
	return s
}

// candidates lists whatever scales something in the namespace, before the workload is read: so the time in which
// another write may come between reading and writing stays short.
func (d *Driver) candidates(ctx context.Context) (found []*unstructured.Unstructured, hidden []string, err error) {
	for _, k := range scalers {
		list, err := d.t.Client.Resource(k.resource).Namespace(d.t.Namespace).List(ctx, metav1.ListOptions{})
		switch kind := cluster.Kind(err); {
		case err == nil:
		case kind == errkind.NotFound:
			continue // the cluster knows no such thing
		case kind == errkind.Config:
			hidden = append(hidden, k.kind)
			continue
		default:
			return nil, nil, d.t.Failed(ctx, "list "+k.resource.Resource, err)
		}
		for i := range list.Items {
			s := &list.Items[i]
			s.SetKind(k.kind) // lists may leave it out
			found = append(found, s)
		}
	}
	return found, hidden, nil
}

// readAll reads the workload and who else scales it.
func (d *Driver) readAll(ctx context.Context) (*workload, rivals, error) {
	var r rivals
	found, hidden, err := d.candidates(ctx)
	if err != nil {
		return nil, r, err
	}
	w, err := d.read(ctx)
	if err != nil {
		return nil, r, err
	}
	r.hidden = hidden
	for _, s := range found {
		if aims(s, w.obj) && !paused(s) {
			r.names = append(r.names, fmt.Sprintf("the %s %q", s.GetKind(), s.GetName()))
		}
	}
	return w, r, nil
}

// aims reports whether a scaler's target is the workload. A ScaledObject that names no kind means a Deployment.
func aims(scaler, workload *unstructured.Unstructured) bool {
	ref, ok, err := unstructured.NestedMap(scaler.Object, "spec", "scaleTargetRef")
	if err != nil || !ok {
		return false
	}
	text := func(key, absent string) string {
		if s, ok := ref[key].(string); ok && s != "" {
			return s
		}
		return absent
	}
	group, _, _ := strings.Cut(text("apiVersion", "apps/v1"), "/")
	kind := workload.GroupVersionKind()
	return text("name", "") == workload.GetName() && text("kind", "Deployment") == kind.Kind && group == kind.Group
}

// paused reports whether a ScaledObject's annotations keep it from scaling.
func paused(scaler *unstructured.Unstructured) bool {
	return scaler.GetAnnotations()["autoscaling.keda.sh/paused"] == "true"
}
