package builtin

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/spell"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/externalscaler"
	"github.com/freshet-io/freshet/orchestrator/actuator/kubernetes"
	"github.com/freshet-io/freshet/orchestrator/actuator/local"
	"github.com/freshet-io/freshet/orchestrator/actuator/scaledobject"
	"github.com/freshet-io/freshet/orchestrator/observe"
)

// OrchestratorOptions is what the program passes to whichever actuator or observer is opened.
type OrchestratorOptions struct {
	Logger *slog.Logger
	// Env looks up the environment, for the secrets that a URL refers to.
	Env func(name string) (string, bool)
	// Pipeline is the name of what is scaled.
	Pipeline string
	// Quantile is the objective's.
	Quantile float64
}

// actuators lists the actuators by the scheme of their URL.
var actuators = []struct {
	scheme string
	open   func(ctx context.Context, url string, o *OrchestratorOptions) (actuator.Driver, error)
}{
	{"http", openLocalActuator},
	{"https", openLocalActuator},
	{"kubernetes", func(ctx context.Context, url string, o *OrchestratorOptions) (actuator.Driver, error) {
		return actuating(kubernetes.Open(ctx, url, kubernetes.Options{Env: o.Env}))
	}},
	{"scaledobject", openScaledObject},
	{"keda", func(ctx context.Context, url string, o *OrchestratorOptions) (actuator.Driver, error) {
		return openScaledObject(ctx, "scaledobject"+strings.TrimPrefix(url, "keda"), o)
	}},
	{"externalscaler", openExternalScaler},
	{"external-scaler", func(ctx context.Context, url string, o *OrchestratorOptions) (actuator.Driver, error) {
		return openExternalScaler(ctx, "externalscaler"+strings.TrimPrefix(url, "external-scaler"), o)
	}},
}

// observers lists what signals are taken from by the scheme of its URL.
var observers = []struct {
	scheme string
	open   func(url string, o *OrchestratorOptions) (orchestrator.Observer, error)
}{
	{"http", openScraper},
	{"https", openScraper},
	{"prometheus+http", openPrometheus},
	{"prometheus+https", openPrometheus},
}

func openLocalActuator(ctx context.Context, url string, o *OrchestratorOptions) (actuator.Driver, error) {
	return actuating(local.Open(ctx, url, o.Pipeline, o.Env))
}

func openScaledObject(ctx context.Context, url string, o *OrchestratorOptions) (actuator.Driver, error) {
	return actuating(scaledobject.Open(ctx, url, scaledobject.Options{Env: o.Env}))
}

func openExternalScaler(ctx context.Context, url string, o *OrchestratorOptions) (actuator.Driver, error) {
	return actuating(externalscaler.Open(ctx, url, externalscaler.Options{Env: o.Env, Logger: o.Logger}))
}

// actuating keeps a nil adapter from becoming a driver that is not nil.
func actuating[D actuator.Driver](d D, err error) (actuator.Driver, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openScraper(url string, o *OrchestratorOptions) (orchestrator.Observer, error) {
	s, err := observe.Scrape(url, o.Pipeline, o.Quantile, o.Env)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openPrometheus(url string, o *OrchestratorOptions) (orchestrator.Observer, error) {
	s, err := observe.Prometheus(url, o.Pipeline, o.Quantile, o.Env)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// OpenActuator opens the actuator that url names: a running freshet (http://HOST:PORT), a workload of
// a cluster (kubernetes://…), a ScaledObject of KEDA (scaledobject://… or keda://…), or KEDA's own questions
// (externalscaler://… or external-scaler://…). Another scheme is Config. No error holds a secret of the URL.
func OpenActuator(ctx context.Context, url string, o OrchestratorOptions) (*actuator.Unit, error) {
	scheme, _, _ := strings.Cut(url, ":")
	var known []string
	for _, a := range actuators {
		if a.scheme != scheme {
			known = append(known, a.scheme)
			continue
		}
		d, err := a.open(ctx, url, &o)
		if err != nil {
			return nil, fmt.Errorf("open actuator %s: %w", RedactURL(url), err)
		}
		return actuator.New(d, actuator.Options{Logger: o.Logger}), nil
	}
	return nil, unknownScheme("actuator", url, scheme, known)
}

// OpenObserver opens what signals are taken from: a running freshet (http://HOST:PORT[,HOST:PORT…]) or a
// Prometheus server that scrapes them (prometheus+http://HOST:PORT). Another scheme is Config. No error holds a
// secret of the URL.
func OpenObserver(_ context.Context, url string, o OrchestratorOptions) (orchestrator.Observer, error) {
	scheme, _, _ := strings.Cut(url, ":")
	known := []string{"trace"} // which the command plays itself
	for _, a := range observers {
		if a.scheme != scheme {
			known = append(known, a.scheme)
			continue
		}
		obs, err := a.open(url, &o)
		if err != nil {
			return nil, fmt.Errorf("open observer %s: %w", RedactURL(url), err)
		}
		return obs, nil
	}
	return nil, unknownScheme("observer", url, scheme, known)
}

func unknownScheme(what, url, scheme string, known []string) error {
	hint := ""
	if near := spell.Nearest(scheme, known); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	return errkind.Errorf(errkind.Config, "open %s %s: this program has no %s %q; it has %s%s", what, RedactURL(url), what, scheme, strings.Join(known, ", "), hint)
}
