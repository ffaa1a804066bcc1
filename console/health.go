package console

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type health struct {
	Status  string   `json:"status"` // ok or fail
	Reasons []string `json:"reasons,omitempty"`
}

func healthHandler(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		var err error
		if check != nil {
			err = check()
		}
		if err == nil {
			writeJSON(w, http.StatusOK, health{Status: "ok"})
			return
		}
		writeJSON(w, http.StatusServiceUnavailable, health{Status: "fail", Reasons: reasons(err)})
	}
}

// reasons lists the parts of a joined error. What wraps a join is one reason.
func reasons(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var out []string
	for _, e := range joined.Unwrap() {
		out = append(out, reasons(e)...)
	}
	return out
}

// metricsHandler exposes g and what the process and the runtime say of
// themselves, from a registry of its own.
func metricsHandler(g prometheus.Gatherer) http.Handler {
	own := prometheus.NewRegistry()
	own.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all := prometheus.Gatherers{own}
	if g != nil {
		all = append(all, g)
	}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
