package observe_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/observe"
	"github.com/freshet-io/freshet/test/servers"
)

func TestAPrometheusServerTellsOfWhatItScrapes(t *testing.T) {
	began := time.Now()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int64(100 * time.Since(began).Seconds()) // a hundred events a second
		fmt.Fprintf(w, `# TYPE freshet_pipeline_info gauge
freshet_pipeline_info{pipeline="p",source="t"} 1
# TYPE freshet_processed_events_total counter
freshet_processed_events_total{pipeline="p"} %d
# TYPE freshet_events_total counter
freshet_events_total{pipeline="p"} %d
# TYPE freshet_consumer_lag gauge
freshet_consumer_lag{pipeline="p",topic="t"} 7
freshet_consumer_lag{pipeline="p",topic="p-by-k"} 70
# TYPE freshet_oldest_event_age_seconds gauge
freshet_oldest_event_age_seconds{pipeline="p",topic="t"} 0.5
`, n, n+3)
		_, _ = io.WriteString(w, "# TYPE freshet_results_total counter\nfreshet_results_total{pipeline=\"p\"} 5\n")
	}))
	defer srv.Close()
	s := servers.Run(t, "prometheus", "target="+strings.TrimPrefix(srv.URL, "http://"))
	o, err := observe.Prometheus("prometheus+http://"+s.Address, "p", 0.99, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	deadline := time.Now().Add(time.Minute)
	var got orchestrator.Signals
	for !got.Known.Has(orchestrator.KnownArrivals) {
		if time.Now().After(deadline) {
			t.Fatalf("no rates within a minute: %+v, %v", got, err)
		}
		time.Sleep(100 * time.Millisecond) // between two looks at a server that scrapes once a second
		if got, err = o.Observe(t.Context()); err != nil && !errkind.Is(err, errkind.NotFound) {
			t.Fatal(err)
		}
	}
	if got.Arrivals < 50 || got.Arrivals > 200 || got.Lag != 7 || got.InFlight != 3 || got.Oldest != 500*time.Millisecond {
		t.Errorf("a hundred events a second, 7 behind: %+v", got)
	}
	if age := time.Since(got.Time); age < 0 || age > 10*time.Second {
		t.Errorf("the signals are %v old", age)
	}
}
