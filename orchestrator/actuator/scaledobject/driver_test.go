package scaledobject

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/actuatortest"
	"github.com/freshet-io/freshet/orchestrator/actuator/internal/clustertest"
)

func open(t testing.TB, c *clustertest.Cluster, name, options string) *Driver {
	t.Helper()
	d, err := Open(t.Context(), c.URL("scaledobject", name, options), c.Options)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// create makes a Deployment and its ScaledObject with the bounds; negative ones are left out.
func create(t testing.TB, c *clustertest.Cluster, name string, least, most int) {
	t.Helper()
	c.Deployment(t, name, 3)
	spec := map[string]any{
		"scaleTargetRef": map[string]any{"name": name},
		"triggers":       []any{map[string]any{"type": "kafka", "metadata": map[string]any{"lagThreshold": "100", "topic": "events"}}},
	}
	if least >= 0 {
		spec["minReplicaCount"] = least
	}
	if most >= 0 {
		spec["maxReplicaCount"] = most
	}
	c.Create(t, clustertest.ScaledObjects, "ScaledObject", name, map[string]any{"spec": spec})
}

// bounds are what the ScaledObject has.
func bounds(t testing.TB, c *clustertest.Cluster, name string) string {
	t.Helper()
	show := func(n *int) string {
		if n == nil {
			return "none"
		}
		return fmt.Sprint(*n)
	}
	obj := c.Get(t, clustertest.ScaledObjects, name)
	return show(bound(obj, "minReplicaCount")) + " to " + show(bound(obj, "maxReplicaCount"))
}

func harness(c *clustertest.Cluster, options string, least, most int) actuatortest.Harness {
	return actuatortest.Harness{Patience: 30 * time.Second, Unit: func(t testing.TB) actuatortest.Unit {
		name := c.Name("unit")
		create(t, c, name, least, most)
		return actuatortest.Unit{
			Open:  func(t testing.TB) actuator.Driver { return open(t, c, name, options) },
			Rule:  func(t testing.TB) string { return bounds(t, c, name) },
			Marks: func(t testing.TB) string { return c.Annotations(t, clustertest.ScaledObjects, name) },
			Meddle: func(t testing.TB, n int) {
				spec := map[string]any{"minReplicaCount": n}
				if options != "" {
					spec["maxReplicaCount"] = n + 20
				}
				c.Merge(t, clustertest.ScaledObjects, name, map[string]any{"spec": spec})
			},
			// KEDA's autoscaler brings the workload to the floor, and its controller the pods.
			Work: func(t testing.TB) {
				if floor := bound(c.Get(t, clustertest.ScaledObjects, name), "minReplicaCount"); floor != nil && *floor > 3 {
					c.Merge(t, clustertest.Deployments, name, map[string]any{"spec": map[string]any{"replicas": *floor}})
				}
				c.Work(t, clustertest.Deployments, name)
			},
			Remove: func(t testing.TB) { c.Remove(t, clustertest.ScaledObjects, name) },
			Writes: 1, Together: true,
			Lie: c.Lie, Refuse: c.Refuse, Break: c.Break, Mend: c.Mend, Freeze: c.Freeze,
		}
	}}
}

func TestConformance(t *testing.T) {
	c := clustertest.NewFake(t)
	t.Run("floor", func(t *testing.T) { actuatortest.Run(t, harness(c, "", 2, 20)) })
	t.Run("floor and ceiling", func(t *testing.T) { actuatortest.Run(t, harness(c, "ceiling=1.5", 2, 20)) })
	t.Run("no bounds of the user's", func(t *testing.T) { actuatortest.Run(t, harness(c, "ceiling=1", -1, -1)) })
}

func TestConformanceOnAnAPIServer(t *testing.T) {
	c := clustertest.Start(t)
	t.Run("floor", func(t *testing.T) { actuatortest.Run(t, harness(c, "", 2, 20)) })
	t.Run("no bounds of the user's", func(t *testing.T) { actuatortest.Run(t, harness(c, "ceiling=1.5", -1, -1)) })
}

func order(t testing.TB, d *Driver, n int) error {
	return d.Apply(t.Context(), orchestrator.Orders{Workers: n}, time.Now().Add(time.Hour))
}

func TestBoundsFollowTheOrder(t *testing.T) {
	for _, tc := range []struct {
		name, options string
		least, most   int
		orders        int
		want          string
	}{
		{"a floor", "", 2, 20, 7, "7 to 20"},
		{"a floor where there was none", "", -1, -1, 7, "7 to none"},
		{"not below the user's own", "", 4, 20, 1, "4 to 20"},
		{"up to the user's own", "", 4, 20, 20, "20 to 20"},
		{"a ceiling", "ceiling=1.5", 2, 20, 7, "7 to 11"},
		{"a ceiling no higher than the user's own", "ceiling=2", 2, 10, 7, "7 to 10"},
		{"a ceiling not below the floor", "ceiling=1", 4, 10, 2, "4 to 4"},
		{"a ceiling of nothing", "ceiling=1", 0, 10, 0, "0 to 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := clustertest.NewFake(t)
			create(t, c, "s", tc.least, tc.most)
			before := bounds(t, c, "s")
			d := open(t, c, "s", tc.options)
			defer d.Close()
			if err := order(t, d, tc.orders); err != nil {
				t.Fatal(err)
			}
			if got := bounds(t, c, "s"); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if s, err := d.Status(t.Context()); err != nil || s.Workers != tc.orders || !s.Ours {
				t.Errorf("the status is %+v, %v", s, err)
			}
			if err := d.Revert(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := bounds(t, c, "s"); got != before {
				t.Errorf("Revert left %s of %s", got, before)
			}
		})
	}
}

func TestMoreThanTheUserAllowsIsRefused(t *testing.T) {
	c := clustertest.NewFake(t)
	create(t, c, "s", 2, 10)
	d := open(t, c, "s", "")
	defer d.Close()
	if err := order(t, d, 11); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "maxReplicaCount is 10") {
		t.Errorf("got %v", err)
	}
}

func TestAPausedScalerIsRefused(t *testing.T) {
	c := clustertest.NewFake(t)
	create(t, c, "s", 2, 10)
	d := open(t, c, "s", "")
	defer d.Close()
	c.Merge(t, clustertest.ScaledObjects, "s", map[string]any{"metadata": map[string]any{"annotations": map[string]any{"autoscaling.keda.sh/paused-replicas": "3"}}})
	if err := order(t, d, 5); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "paused-replicas") {
		t.Errorf("got %v", err)
	}
	if s, err := d.Status(t.Context()); err != nil || !strings.Contains(s.Note, "paused-replicas") {
		t.Errorf("the status is %+v, %v", s, err)
	}
}

// A person may raise the ceiling at any time; what is not ordered is not ours.
func TestABoundThatIsNotOrderedMayChange(t *testing.T) {
	c := clustertest.NewFake(t)
	create(t, c, "s", 2, 10)
	d := open(t, c, "s", "")
	defer d.Close()
	if err := order(t, d, 5); err != nil {
		t.Fatal(err)
	}
	c.Merge(t, clustertest.ScaledObjects, "s", map[string]any{"spec": map[string]any{"maxReplicaCount": 30}})
	if err := order(t, d, 25); err != nil {
		t.Error(err)
	}
	if err := d.Revert(t.Context()); err != nil {
		t.Error(err)
	}
	if got := bounds(t, c, "s"); got != "2 to 30" {
		t.Errorf("Revert left %s", got)
	}
}

// An orchestrator that orders no ceiling takes back that of one that did.
func TestACeilingEndsWithTheOption(t *testing.T) {
	c := clustertest.NewFake(t)
	create(t, c, "s", 2, 20)
	first := open(t, c, "s", "ceiling=1")
	if err := order(t, first, 5); err != nil {
		t.Fatal(err)
	}
	first.Close()
	d := open(t, c, "s", "")
	defer d.Close()
	if err := order(t, d, 6); err != nil {
		t.Fatal(err)
	}
	if got := bounds(t, c, "s"); got != "6 to 20" {
		t.Errorf("got %s", got)
	}
}

func TestURLsAreRead(t *testing.T) {
	c := clustertest.NewFake(t)
	create(t, c, "s", 2, 20)
	for url, want := range map[string]string{
		"scaledobject://test/s?ceiling=1.5": "",
		"scaledobject://test/":              "NAME",
		"scaledobject://test/a/b":           "NAME",
		"scaledobject://test/s?ceiling=0.5": "at least 1",
		"scaledobject://test/s?ceiling=NaN": "at least 1",
		"scaledobject://test/s?cieling=1":   `did you mean "ceiling"`,
	} {
		d, err := Open(t.Context(), url, c.Options)
		switch {
		case err == nil && want == "":
			d.Close()
		case err == nil || want == "" || !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}
