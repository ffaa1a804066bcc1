package scaledobject

import (
	"context"
	"fmt"
	"math"
	"strconv"
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

// Driver is an actuator.Driver for one ScaledObject. Its methods may be called at once; one runs at a time.
type Driver struct {
	t       *cluster.Target
	name    string
	ceiling float64 // 0: maxReplicaCount is not ours
}

var resource = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}

// defaultMax is KEDA's maxReplicaCount where a ScaledObject has none.
const defaultMax = 100

// mark is the annotation.
type mark struct {
	Workers int       `json:"workers"`
	Min     change    `json:"min"`
	Max     *change   `json:"max,omitempty"` // nil: not ours
	Expires time.Time `json:"expires"`
}

// change is a bound as it was found and as it was set; nil where the ScaledObject has none.
type change struct {
	Found *int `json:"found"`
	Set   *int `json:"set"`
}

// back is what a bound becomes that now is n: what was found, unless someone else has changed it.
func (c *change) back(n *int) *int {
	if same(n, c.Set) {
		return c.Found
	}
	return n
}

func same(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }

func value(n *int, absent int) int {
	if n == nil {
		return absent
	}
	return *n
}

// Open returns the driver of the ScaledObject that the URL names. It reads it once: one that is
// not there is NotFound, refused credentials are Config, a cluster that does not answer is Transient.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	t, err := cluster.Parse(url, o)
	if err != nil {
		return nil, err
	}
	d := &Driver{t: t, name: t.Path}
	if d.name == "" || strings.Contains(d.name, "/") {
		return nil, errkind.Errorf(errkind.Config, "open %s: expected scaledobject://[CONTEXT@][NAMESPACE]/NAME", t)
	}
	if text := t.Option("ceiling", ""); text != "" {
		if d.ceiling, err = strconv.ParseFloat(text, 64); err != nil || !(d.ceiling >= 1 && d.ceiling <= 1000) {
			return nil, errkind.Errorf(errkind.Config, "open %s: option ceiling=%s: expected a factor of at least 1", t, text)
		}
	}
	if err := t.Connect(o); err != nil {
		return nil, err
	}
	if _, err := d.Status(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Capabilities implements actuator.Driver.
func (d *Driver) Capabilities() actuator.Capabilities {
	return actuator.Capabilities{Workers: true, Floor: true, Ready: true}
}

// Close implements actuator.Driver.
func (d *Driver) Close() error { return d.t.Close() }

// scaler is what was read.
type scaler struct {
	obj      *unstructured.Unstructured
	min, max *int
	mark     *mark
}

func (d *Driver) client() dynamic.ResourceInterface {
	return d.t.Client.Resource(resource).Namespace(d.t.Namespace)
}

func (d *Driver) read(ctx context.Context) (*scaler, error) {
	obj, err := d.client().Get(ctx, d.name, metav1.GetOptions{})
	if err != nil {
		return nil, d.t.Failed(ctx, "read it", err)
	}
	s := &scaler{obj: obj, min: bound(obj, "minReplicaCount"), max: bound(obj, "maxReplicaCount")}
	var m mark
	if ok, err := cluster.ReadMark(obj, &m); err != nil {
		return nil, err
	} else if ok {
		s.mark = &m
	}
	return s, nil
}

func bound(obj *unstructured.Unstructured, name string) *int {
	if n, ok := cluster.Number(obj, "spec", name); ok {
		return &n
	}
	return nil
}

// ours reports whether the bounds are those that were set.
func (s *scaler) ours() bool {
	return s.mark != nil && same(s.min, s.mark.Min.Set) && (s.mark.Max == nil || same(s.max, s.mark.Max.Set))
}

// paused says how KEDA is kept from scaling; empty where it is not.
func (s *scaler) paused() string {
	a := s.obj.GetAnnotations()
	if n, ok := a["autoscaling.keda.sh/paused-replicas"]; ok {
		return "the annotation autoscaling.keda.sh/paused-replicas pauses it at " + n
	}
	if a["autoscaling.keda.sh/paused"] == "true" {
		return "the annotation autoscaling.keda.sh/paused pauses it"
	}
	return ""
}

// Status implements actuator.Driver. Ready, Starting and Stopping are of the workload that the ScaledObject scales.
func (d *Driver) Status(ctx context.Context) (st actuator.Status, err error) {
	ctx, leave, err := d.t.Enter(ctx)
	if err != nil {
		return st, err
	}
	defer leave()
	s, err := d.read(ctx)
	if err != nil {
		return st, err
	}
	st.Workers = value(s.min, 0)
	notes := []string{fmt.Sprintf("minReplicaCount is %d, maxReplicaCount %d", value(s.min, 0), value(s.max, defaultMax))}
	if p := s.paused(); p != "" {
		notes = append(notes, p)
	}
	if m := s.mark; m != nil {
		st.Ours, st.Expires = s.ours(), m.Expires
		if st.Ours {
			st.Workers = m.Workers
		} else {
			notes = append(notes, fmt.Sprintf("%d workers were ordered until %s, and someone else has changed the bounds", m.Workers, m.Expires.Format(time.RFC3339)))
		}
	}
	if note := d.pods(ctx, s, &st); note != "" {
		notes = append(notes, note)
	}
	st.Note = strings.Join(notes, "; ")
	return st, nil
}

// pods counts what is there of the workload, and says why it cannot.
func (d *Driver) pods(ctx context.Context, s *scaler, st *actuator.Status) string {
	text := func(absent string, path ...string) string {
		if v, ok, err := unstructured.NestedString(s.obj.Object, path...); err == nil && ok && v != "" {
			return v
		}
		return absent
	}
	// What KEDA has found out about the target; before it has, a guess.
	kind := text("Deployment", "spec", "scaleTargetRef", "kind")
	guess, err := schema.ParseGroupVersion(text("apps/v1", "spec", "scaleTargetRef", "apiVersion"))
	if err != nil {
		return "its target cannot be told: " + err.Error()
	}
	gvr := schema.GroupVersionResource{
		Group:    text(guess.Group, "status", "scaleTargetGVKR", "group"),
		Version:  text(guess.Version, "status", "scaleTargetGVKR", "version"),
		Resource: text(strings.ToLower(kind)+"s", "status", "scaleTargetGVKR", "resource"),
	}
	name := text("", "spec", "scaleTargetRef", "name")
	obj, err := d.t.Client.Resource(gvr).Namespace(d.t.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Sprintf("its %s %q cannot be read: %v", kind, name, err)
	}
	wanted, _ := cluster.Number(obj, "spec", "replicas")
	if st.Ours {
		wanted = max(wanted, value(s.min, 0)) // ordered, and KEDA will
	}
	st.Ready, st.Starting, st.Stopping = cluster.Pods(obj, wanted)
	return ""
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
		s, err := d.read(ctx)
		if err != nil {
			return err
		}
		m, err := d.plan(s, o.Workers)
		if err != nil {
			return err
		}
		m.Expires = cluster.Until(expires)
		most := s.max
		if m.Max != nil {
			most = m.Max.Set
		} else if s.mark != nil && s.mark.Max != nil {
			most = s.mark.Max.back(s.max) // an earlier process ordered a ceiling
		}
		return d.write(ctx, s, m, m.Min.Set, most)
	})
}

// plan is what an order makes of the bounds.
func (d *Driver) plan(s *scaler, n int) (*mark, error) {
	if p := s.paused(); p != "" {
		return nil, errkind.Errorf(errkind.Config, "%s: %s: an order would change nothing", d.t, p)
	}
	m := &mark{Workers: n, Min: change{Found: s.min}}
	top := change{Found: s.max}
	if old := s.mark; old != nil {
		if !s.ours() {
			return nil, errkind.Errorf(errkind.Conflict, "%s: someone else has changed the bounds to %d and %d since %d workers were ordered",
				d.t, value(s.min, 0), value(s.max, defaultMax), old.Workers)
		}
		m.Min.Found = old.Min.Found
		if old.Max != nil {
			top.Found = old.Max.Found
		}
	}
	limit := value(top.Found, defaultMax)
	if n > limit {
		return nil, errkind.Errorf(errkind.Config, "%s: %d workers were ordered, and its maxReplicaCount is %d: raise it, or lower the most that may be ordered", d.t, n, limit)
	}
	least := max(n, value(m.Min.Found, 0))
	m.Min.Set = &least
	if d.ceiling > 0 {
		most := int(math.Ceil(float64(n) * d.ceiling))
		most = min(limit, max(most, least, 1))
		top.Set = &most
		m.Max = &top
	}
	return m, nil
}

// Revert implements actuator.Driver.
func (d *Driver) Revert(ctx context.Context) error {
	ctx, leave, err := d.t.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return d.t.Settle(ctx, func() error {
		s, err := d.read(ctx)
		if err != nil || s.mark == nil {
			return err
		}
		least, most := s.mark.Min.back(s.min), s.max
		if s.mark.Max != nil {
			most = s.mark.Max.back(s.max)
		}
		return d.write(ctx, s, nil, least, most)
	})
}

// write sets annotation and bounds at once, on the version that was read.
func (d *Driver) write(ctx context.Context, s *scaler, m *mark, least, most *int) error {
	spec := map[string]any{}
	put := func(name string, was, n *int) {
		switch {
		case same(was, n):
		case n == nil:
			spec[name] = nil
		default:
			spec[name] = *n
		}
	}
	put("minReplicaCount", s.min, least)
	put("maxReplicaCount", s.max, most)
	var annotation any
	if m != nil {
		annotation = m
		if len(spec) == 0 && s.mark != nil && s.mark.Workers == m.Workers && s.mark.Expires.Equal(m.Expires) {
			return nil
		}
	}
	if len(spec) == 0 {
		spec = nil
	}
	patch, err := cluster.Patch(s.obj.GetResourceVersion(), annotation, spec)
	if err != nil {
		return err
	}
	obj, err := d.client().Patch(ctx, d.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: cluster.Manager})
	if err != nil {
		return d.t.Write(ctx, "write its bounds", err)
	}
	if a, b := bound(obj, "minReplicaCount"), bound(obj, "maxReplicaCount"); !same(a, least) || !same(b, most) {
		return errkind.Errorf(errkind.Conflict, "%s: bounds of %d and %d were ordered, and the cluster made them %d and %d: an admission webhook or a policy changes them",
			d.t, value(least, 0), value(most, defaultMax), value(a, 0), value(b, defaultMax))
	}
	return nil
}
