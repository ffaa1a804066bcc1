package cluster

import (
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/freshet-io/freshet/errkind"
)

// Annotation holds, as JSON, what orders are in force on an object, what was found before them, and until
// when they are meant.
const Annotation = "freshet.io/orders"

// ReadMark reads the annotation into m; false where there is none.
func ReadMark(obj *unstructured.Unstructured, m any) (bool, error) {
	text, ok := obj.GetAnnotations()[Annotation]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return false, errkind.Errorf(errkind.Corrupt, "%s %s/%s: the annotation %s cannot be read (%w); restore what it stands for by hand and remove it",
			obj.GetKind(), obj.GetNamespace(), obj.GetName(), Annotation, err)
	}
	return true, nil
}

// Patch is a merge patch of an object that must still have the resource version that was read. mark
// is the annotation's new value, nil to remove it; spec are the fields to change, nil to remove one.
func Patch(version string, mark any, spec map[string]any) ([]byte, error) {
	var text any
	if mark != nil {
		b, err := json.Marshal(mark)
		if err != nil {
			return nil, fmt.Errorf("write the annotation %s: %w", Annotation, err)
		}
		text = string(b)
	}
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": version, "annotations": map[string]any{Annotation: text}}}
	if spec != nil {
		patch["spec"] = spec
	}
	return json.Marshal(patch)
}

// Until is an expiry as marks hold it.
func Until(t time.Time) time.Time { return t.UTC().Round(0).Truncate(time.Millisecond) }

// Number reads a whole number at a path; false where there is none.
func Number(obj *unstructured.Unstructured, path ...string) (int, bool) {
	v, ok, err := unstructured.NestedFieldNoCopy(obj.Object, path...)
	if err != nil || !ok {
		return 0, false
	}
	switch v := v.(type) {
	case int64:
		return int(v), true
	case float64:
		return int(v), true
	}
	return 0, false
}

// Pods is what is there of a workload that should have wanted pods, as its status says. A pod that is ready
// beyond what is wanted is about to stop.
func Pods(obj *unstructured.Unstructured, wanted int) (ready, starting, stopping int) {
	all, known := Number(obj, "status", "replicas")
	ready, said := Number(obj, "status", "readyReplicas")
	switch {
	case said:
	case known && obj.GroupVersionKind().Group != "apps":
		ready = all // it tells no ready ones from others
	}
	terminating, _ := Number(obj, "status", "terminatingReplicas")
	ready = min(ready, wanted)
	return ready, wanted - ready, max(0, all-wanted) + terminating
}
