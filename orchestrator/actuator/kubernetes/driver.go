package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/internal/cluster"
)

// Options are those of every adapter of the cluster.
type Options = cluster.Options

// Driver is an actuator.Driver for one workload. Its methods may be called at once; one runs at a time.
type Driver struct {
	t        *cluster.Target
	resource schema.GroupVersionResource
	name     string
}

// mark is the annotation: the count found at the beginning, the one before the last order, the ordered one.
type mark struct {
	Found   int       `json:"found"`
	Before  int       `json:"before"`
	Workers int       `json:"workers"`
	Expires time.Time `json:"expires"`
}

// short are the resources that need no version and group.
var short = []string{"deployments", "statefulsets", "replicasets"}

// Open returns the driver of the workload that the URL names. It reads it once: a workload that
// is not there is NotFound, refused credentials are Config, a cluster that does not answer is Transient.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	t, err := cluster.Parse(url, o)
	if err != nil {
		return nil, err
	}
	resource, name, ok := strings.Cut(t.Path, "/")
	d := &Driver{t: t, name: name}
	if d.resource, ok = parse(resource, ok && name != "" && !strings.Contains(name, "/")); !ok {
		return nil, errkind.Errorf(errkind.Config, "open %s: expected kubernetes://[CONTEXT@][NAMESPACE]/RESOURCE/NAME, RESOURCE one of %s or RESOURCE.VERSION.GROUP",
			t, strings.Join(short, ", "))
	}
	if err := t.Connect(o); err != nil {
		return nil, err
	}
	if _, err := d.Status(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

func parse(resource string, ok bool) (schema.GroupVersionResource, bool) {
	for _, s := range short {
		if ok && resource == s {
			return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: s}, true
		}
	}
	parts := strings.SplitN(resource, ".", 3)
	if !ok || len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return schema.GroupVersionResource{}, false
	}
	return schema.GroupVersionResource{Group: parts[2], Version: parts[1], Resource: parts[0]}, true
}

// Capabilities implements actuator.Driver.
func (d *Driver) Capabilities() actuator.Capabilities {
	return actuator.Capabilities{Workers: true, Ready: true}
}

// Close implements actuator.Driver.
func (d *Driver) Close() error { return d.t.Close() }

// workload is what was read, in one version.
type workload struct {
	obj     *unstructured.Unstructured
	version string
	count   int
	mark    *mark
}

func (d *Driver) client() dynamic.ResourceInterface {
	return d.t.Client.Resource(d.resource).Namespace(d.t.Namespace)
}

func (d *Driver) read(ctx context.Context) (*workload, error) {
	obj, err := d.client().Get(ctx, d.name, metav1.GetOptions{})
	if err != nil {
		return nil, d.t.Failed(ctx, "read it", err)
	}
	scale, err := d.client().Get(ctx, d.name, metav1.GetOptions{}, "scale")
	if err != nil {
		return nil, d.t.Failed(ctx, "read its scale subresource", err)
	}
	if scale.GetResourceVersion() != obj.GetResourceVersion() {
		return nil, cluster.Late()
	}
	w := &workload{obj: obj, version: obj.GetResourceVersion()}
	w.count, _ = cluster.Number(scale, "spec", "replicas") // left out where it is 0
	var m mark
	if ok, err := cluster.ReadMark(obj, &m); err != nil {
		return nil, err
	} else if ok {
		w.mark = &m
	}
	return w, nil
}

// Status implements actuator.Driver.
func (d *Driver) Status(ctx context.Context) (s actuator.Status, err error) {
	ctx, leave, err := d.t.Enter(ctx)
	if err != nil {
		return s, err
	}
	defer leave()
	var (
		w *workload
		r rivals
	)
	if err := d.t.Settle(ctx, func() (err error) { w, r, err = d.readAll(ctx); return err }); err != nil {
		return s, err
	}
	s.Workers, s.Note = w.count, r.note()
	s.Ready, s.Starting, s.Stopping = cluster.Pods(w.obj, w.count)
	if m := w.mark; m != nil {
		// The count before these orders may be that of earlier ones.
		s.Ours, s.Expires = w.count == m.Workers || w.count == m.Before, m.Expires
		if w.count != m.Workers {
			s.Note = join(s.Note, fmt.Sprintf("%d workers were ordered until %s, and there are %d: %s",
				m.Workers, m.Expires.Format(time.RFC3339), w.count, theirs(w.count, m)))
		}
	}
	return s, nil
}

func theirs(count int, m *mark) string {
	if count == m.Before {
		return "the order was not carried out, or taken back by someone else"
	}
	return "someone else has changed it"
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// Apply implements actuator.Driver.
func (d *Driver) Apply(ctx context.Context, o orchestrator.Orders, expires time.Time) error {
	if err := actuator.Check(d.Capabilities(), o); err != nil {
		return err
	}
	ctx, leave, err := d.t.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return d.t.Settle(ctx, func() error {
		w, r, err := d.readAll(ctx)
		if err != nil {
			return err
		}
		if len(r.names) > 0 {
			return errkind.Errorf(errkind.Config, "%s: %s: an order would be undone at once; order its bounds (scaledobject://), or take it away", d.t, r.note())
		}
		m := mark{Found: w.count, Before: w.count, Workers: o.Workers, Expires: cluster.Until(expires)}
		if old := w.mark; old != nil {
			if w.count != old.Workers && w.count != old.Before {
				return errkind.Errorf(errkind.Conflict, "%s: %d workers were ordered, and someone else has made it %d", d.t, old.Workers, w.count)
			}
			m.Found = old.Found
		}
		if w.mark == nil || *w.mark != m {
			if err := d.annotate(ctx, w, &m); err != nil {
				return err
			}
		}
		return d.scale(ctx, w, o.Workers)
	})
}

// Revert implements actuator.Driver.
func (d *Driver) Revert(ctx context.Context) error {
	ctx, leave, err := d.t.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return d.t.Settle(ctx, func() error {
		w, r, err := d.readAll(ctx)
		if err != nil || w.mark == nil {
			return err
		}
		if m := w.mark; len(r.names) == 0 && (w.count == m.Workers || w.count == m.Before) {
			if err := d.scale(ctx, w, m.Found); err != nil {
				return err
			}
		}
		return d.annotate(ctx, w, nil)
	})
}

// annotate writes or removes the annotation, on the version that was read.
func (d *Driver) annotate(ctx context.Context, w *workload, m *mark) error {
	var value any
	if m != nil {
		value = m
	}
	patch, err := cluster.Patch(w.version, value, nil)
	if err != nil {
		return err
	}
	obj, err := d.client().Patch(ctx, d.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: cluster.Manager})
	if err != nil {
		return d.t.Write(ctx, "write its annotation", err)
	}
	w.version = obj.GetResourceVersion()
	return nil
}

// scale writes the count, on the version that was read.
func (d *Driver) scale(ctx context.Context, w *workload, n int) error {
	if n == w.count {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": w.version},
		"spec":     map[string]any{"replicas": n},
	})
	if err != nil {
		return fmt.Errorf("write the count: %w", err)
	}
	scale, err := d.client().Patch(ctx, d.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: cluster.Manager}, "scale")
	if err != nil {
		return d.t.Write(ctx, "write its scale subresource", err)
	}
	if stored, _ := cluster.Number(scale, "spec", "replicas"); stored != n {
		return errkind.Errorf(errkind.Conflict, "%s: %d workers were ordered, and the cluster made it %d: an admission webhook or a policy bounds it", d.t, n, stored)
	}
	w.version, w.count = scale.GetResourceVersion(), n
	return nil
}
