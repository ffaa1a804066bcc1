package kubernetes

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/actuatortest"
	"github.com/freshet-io/freshet/orchestrator/actuator/internal/cluster"
	"github.com/freshet-io/freshet/orchestrator/actuator/internal/clustertest"
)

// open opens a driver that the test closes.
func open(t testing.TB, c *clustertest.Cluster, path string) *Driver {
	t.Helper()
	d, err := Open(t.Context(), c.URL("kubernetes", path, ""), c.Options)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// harness is of Deployments, or of custom resources with a scale subresource.
func harness(c *clustertest.Cluster, gvr schema.GroupVersionResource) actuatortest.Harness {
	return actuatortest.Harness{Patience: 30 * time.Second, Unit: func(t testing.TB) actuatortest.Unit {
		name := c.Name("unit")
		path := "deployments/" + name
		if gvr == clustertest.Deployments {
			c.Deployment(t, name, 3)
		} else {
			path = gvr.Resource + "." + gvr.Version + "." + gvr.Group + "/" + name
			c.Create(t, gvr, "Worker", name, map[string]any{"spec": map[string]any{"replicas": 3}})
		}
		return actuatortest.Unit{
			Open:  func(t testing.TB) actuator.Driver { return open(t, c, path) },
			Rule:  func(t testing.TB) string { return fmt.Sprint(c.Replicas(t, gvr, name)) },
			Marks: func(t testing.TB) string { return c.Annotations(t, gvr, name) },
			Meddle: func(t testing.TB, n int) {
				c.Merge(t, gvr, name, map[string]any{"spec": map[string]any{"replicas": n}})
			},
			Work:   func(t testing.TB) { c.Work(t, gvr, name) },
			Remove: func(t testing.TB) { c.Remove(t, gvr, name) },
			Writes: 2, Together: true,
			Lie: c.Lie, Refuse: c.Refuse, Break: c.Break, Mend: c.Mend, Freeze: c.Freeze,
		}
	}}
}

func TestConformance(t *testing.T) {
	actuatortest.Run(t, harness(clustertest.NewFake(t), clustertest.Deployments))
}

func TestConformanceOfCustomResources(t *testing.T) {
	actuatortest.Run(t, harness(clustertest.NewFake(t), clustertest.Workers))
}

func TestConformanceOnAnAPIServer(t *testing.T) {
	c := clustertest.Start(t)
	t.Run("deployment", func(t *testing.T) { actuatortest.Run(t, harness(c, clustertest.Deployments)) })
	t.Run("custom resource", func(t *testing.T) { actuatortest.Run(t, harness(c, clustertest.Workers)) })
	t.Run("documentation", func(t *testing.T) { c.Documentation(t) })
	t.Run("rivals", func(t *testing.T) { rivalsAreRefused(t, c) })
	t.Run("busy", func(t *testing.T) { statusUpdatesAreNoConflict(t, c) })
	t.Run("not found", func(t *testing.T) {
		for _, path := range []string{"deployments/nobody", "workers.v2.example.com/nobody"} {
			if _, err := Open(t.Context(), c.URL("kubernetes", path, ""), c.Options); !errkind.Is(err, errkind.NotFound) {
				t.Errorf("open %s: %v", path, err)
			}
		}
	})
	t.Run("wrong token", func(t *testing.T) {
		url := strings.Replace(c.URL("kubernetes", "deployments/x", ""), "://", "://nobody@", 1)
		if _, err := Open(t.Context(), url, c.Options); !errkind.Is(err, errkind.Config) {
			t.Errorf("open as nobody: %v", err)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		name := c.Name("unit")
		c.Deployment(t, name, 3)
		d := open(t, c, "deployments/"+name)
		defer d.Close()
		c.Restart(t, func() {
			if _, err := d.Status(t.Context()); !errkind.Is(err, errkind.Transient) {
				t.Errorf("status of a cluster that is down: %v", err)
			}
		})
		if s, err := d.Status(t.Context()); err != nil || s.Workers != 3 {
			t.Errorf("after a restart of the API server: %+v, %v", s, err)
		}
	})
}

// order gives n workers for an hour.
func order(t testing.TB, d actuator.Driver, n int) error {
	return d.Apply(t.Context(), orchestrator.Orders{Workers: n}, time.Now().Add(time.Hour))
}

func TestAWorkloadThatIsScaledAlreadyIsRefused(t *testing.T) {
	rivalsAreRefused(t, clustertest.NewFake(t))
}

func rivalsAreRefused(t *testing.T, c *clustertest.Cluster) {
	for _, tc := range []struct {
		name, kind string
		gvr        schema.GroupVersionResource
		spec       func(target string) map[string]any
		rival      bool
	}{
		{"autoscaler", "HorizontalPodAutoscaler", clustertest.Autoscalers, func(target string) map[string]any {
			return map[string]any{"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": target}, "maxReplicas": 10}
		}, true},
		{"autoscaler-of-another", "HorizontalPodAutoscaler", clustertest.Autoscalers, func(target string) map[string]any {
			return map[string]any{"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": target}, "maxReplicas": 10}
		}, false},
		{"scaledobject", "ScaledObject", clustertest.ScaledObjects, func(target string) map[string]any {
			return map[string]any{"scaleTargetRef": map[string]any{"name": target}, "triggers": []any{map[string]any{"type": "cpu", "metadata": map[string]any{"value": "50"}}}}
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := c.Name("rival")
			c.Deployment(t, name, 3)
			d := open(t, c, "deployments/"+name)
			defer d.Close()
			if err := order(t, d, 4); err != nil {
				t.Fatal(err)
			}
			other := c.Name(tc.name)
			c.Create(t, tc.gvr, tc.kind, other, map[string]any{"spec": tc.spec(name)})
			s, err := d.Status(t.Context())
			if err != nil || strings.Contains(s.Note, other) != tc.rival {
				t.Errorf("the status is %+v, %v", s, err)
			}
			err = order(t, d, 5)
			if tc.rival != (errkind.Is(err, errkind.Config) && strings.Contains(err.Error(), other)) {
				t.Errorf("apply beside %s: %v", tc.kind, err)
			}
			if n := c.Replicas(t, clustertest.Deployments, name); tc.rival && n != 4 {
				t.Errorf("refused orders left %d workers", n)
			}
			if !tc.rival {
				return
			}
			// What the other scales stays as it wants it; only the annotation goes.
			if err := d.Revert(t.Context()); err != nil {
				t.Error(err)
			}
			if n, a := c.Replicas(t, clustertest.Deployments, name), c.Annotations(t, clustertest.Deployments, name); n != 4 || strings.Contains(a, cluster.Annotation) {
				t.Errorf("after Revert beside a rival there are %d workers, annotations %s", n, a)
			}
		})
	}
}

// The controller writes the status of a Deployment all the time.
func statusUpdatesAreNoConflict(t *testing.T, c *clustertest.Cluster) {
	name := c.Name("busy")
	c.Deployment(t, name, 3)
	d := open(t, c, "deployments/"+name)
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 1; ctx.Err() == nil; i++ {
			<-tick.C
			c.Merge(t, clustertest.Deployments, name, map[string]any{"status": map[string]any{"observedGeneration": i}}, "status")
		}
	}()
	for n := range 10 {
		if err := order(t, d, 4+n%3); err != nil {
			t.Errorf("order %d beside status updates: %v", n, err)
		}
	}
	if err := d.Revert(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
	if n := c.Replicas(t, clustertest.Deployments, name); n != 3 {
		t.Errorf("after Revert there are %d workers", n)
	}
}

func TestScalersThatMayNotBeListedAreNoted(t *testing.T) {
	c := clustertest.NewFake(t)
	c.Deployment(t, "w", 3)
	c.HideScalers()
	d := open(t, c, "deployments/w")
	defer d.Close()
	if err := order(t, d, 4); err != nil {
		t.Error(err)
	}
	if s, err := d.Status(t.Context()); err != nil || !strings.Contains(s.Note, "may not list") {
		t.Errorf("the status is %+v, %v", s, err)
	}
}

func TestAnAnnotationThatCannotBeReadIsCorrupt(t *testing.T) {
	c := clustertest.NewFake(t)
	c.Deployment(t, "w", 3)
	d := open(t, c, "deployments/w")
	defer d.Close()
	c.Merge(t, clustertest.Deployments, "w", map[string]any{"metadata": map[string]any{"annotations": map[string]any{cluster.Annotation: "{"}}})
	for what, err := range map[string]error{"apply": order(t, d, 4), "revert": d.Revert(t.Context())} {
		if !errkind.Is(err, errkind.Corrupt) || !strings.Contains(err.Error(), cluster.Annotation) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestURLsAreRead(t *testing.T) {
	c := clustertest.NewFake(t)
	c.Deployment(t, "w", 3)
	for url, want := range map[string]string{
		"kubernetes://test/deployments/w?timeout=5s":                "",
		"kubernetes://prod@test/deployments/w":                      "",
		"kubernetes://test/deployments.v1.apps/w?context=arn:aws:x": "",
		"kubernetes://test/deployments":                             "RESOURCE/NAME",
		"kubernetes://test/pods/w":                                  "RESOURCE.VERSION.GROUP",
		"kubernetes://test/deployments/w/x":                         "RESOURCE/NAME",
		"kubernetes://a,b/deployments/w":                            "one namespace",
		"kubernetes://arn:aws@test/deployments/w":                   "option context",
		"kubernetes://test/deployments/w?timout=5s":                 `did you mean "timeout"`,
		"kubernetes://test/deployments/w?timeout=0s":                "duration",
	} {
		d, err := Open(t.Context(), url, c.Options)
		switch {
		case err == nil && want == "":
			d.Close()
		case err == nil || want == "" || !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	if _, err := Open(t.Context(), "kubernetes://test/deployments/w?kubeconfig=/none/kubeconfig", Options{}); !errkind.Is(err, errkind.Config) {
		t.Errorf("a kubeconfig that is not there: %v", err)
	}
}
