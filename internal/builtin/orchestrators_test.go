package builtin

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

func TestActuatorsAndObserversAreFoundByTheirScheme(t *testing.T) {
	o := OrchestratorOptions{Pipeline: "p", Quantile: 0.99}
	for _, url := range []string{"http://localhost:1", "https://localhost:1,localhost:2", "prometheus+http://localhost:9090/prefix"} {
		if obs, err := OpenObserver(t.Context(), url, o); err != nil || obs == nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"http://", "kubernetes://", "keda://", "scaledobject://", "external-scaler://nowhere", "externalscaler://nowhere"} {
		u, err := OpenActuator(t.Context(), url, o)
		if err == nil {
			_ = u.Close()
			t.Errorf("%s is opened", url)
		} else if strings.Contains(err.Error(), "this program has no") {
			t.Error(err)
		}
	}
	_, err := OpenActuator(t.Context(), "keta://user:secret@default/scorer", o)
	if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "did you mean keda?") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	if _, err := OpenObserver(t.Context(), "ftp://x", o); !errkind.Is(err, errkind.Config) {
		t.Error(err)
	}
}

func TestEveryPolicyThatIsNamedIsOpened(t *testing.T) {
	for _, name := range PolicyNames() {
		text := name
		if name == "static" {
			text = "static:workers=3"
		}
		p, err := OpenPolicy(text, 0)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if p.Name() != name || p.Period() <= 0 {
			t.Errorf("%s is %s, every %s", name, p.Name(), p.Period())
		}
	}
	p, err := OpenPolicy("floor", 7*time.Second)
	if err != nil || p.Period() != 7*time.Second {
		t.Errorf("%v, %v", p, err)
	}
	for _, text := range []string{"", "best", "horizon:risk=2", "hpa:target", "hpa:target=lots"} {
		if _, err := OpenPolicy(text, 0); !errkind.Is(err, errkind.Config) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAPilotLearnsWhatArrivedBefore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j, err := orchestrator.OpenJournal(dir, orchestrator.JournalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for i := range 360 {
		s := orchestrator.Signals{Time: now.Add(time.Duration(i-359) * 10 * time.Second), Window: 10 * time.Second, Known: orchestrator.KnownArrivals, Arrivals: 500}
		if err := j.Append(&orchestrator.Entry{Kind: orchestrator.KindRound, Round: &orchestrator.Round{Signals: s}}); err != nil {
			t.Fatal(err)
		}
	}
	var wide []float64 // how far the upper quantile lies above the middle
	for _, past := range []string{"", dir} {
		p, err := OpenPolicy("horizon", 0)
		if err != nil {
			t.Fatal(err)
		}
		pilot, err := NewPilot(PilotOptions{
			Policy: p, Past: past, Objective: orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 20},
			Capacity: orchestrator.Capacity{Overhead: 0.02, PerEvent: 0.002, Batch: 64, StartUp: time.Minute},
		})
		if err != nil {
			t.Fatal(err)
		}
		s := orchestrator.Signals{Time: now.Add(10 * time.Second), Window: 10 * time.Second, Known: orchestrator.KnownArrivals | orchestrator.KnownLag, Arrivals: 500}
		pilot.Step(s.Time, &s, orchestrator.Orders{Workers: 2})
		r := pilot.(interface{ Last() *orchestrator.Round }).Last()
		wide = append(wide, r.Demand.At(2, 0.99)/r.Demand.At(2, 0.5)-1)
	}
	if wide[1] > wide[0]/2 {
		t.Errorf("with an hour of past the forecast is as wide as without: %.3g, %.3g", wide[1], wide[0])
	}
}
