package externalscaler

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/actuatortest"
	"github.com/freshet-io/freshet/orchestrator/actuator/externalscaler/kedaproto"
)

var object = &kedaproto.ScaledObjectRef{Name: "scorer", Namespace: "fraud", ScalerMetadata: map[string]string{"scalerAddress": "freshet:6000"}}

func open(t testing.TB, url string) *Driver {
	t.Helper()
	d, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// keda is a client such as KEDA's, made from KEDA's own description of the interface.
func keda(t testing.TB, address string, c credentials.TransportCredentials) kedaproto.ExternalScalerClient {
	t.Helper()
	if c == nil {
		c = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return kedaproto.NewExternalScalerClient(conn)
}

// asks is what KEDA is told: the number of workers and whether the trigger is active.
func asks(t testing.TB, k kedaproto.ExternalScalerClient) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // also in clean-ups
	defer cancel()
	spec, err := k.GetMetricSpec(ctx, object)
	if err != nil {
		return status.Code(err).String()
	}
	if len(spec.GetMetricSpecs()) != 1 || spec.GetMetricSpecs()[0].GetTargetSizeFloat() != 1 || spec.GetMetricSpecs()[0].GetTargetSize() != 1 {
		t.Errorf("the specification is %v", spec)
	}
	m, err := k.GetMetrics(ctx, &kedaproto.GetMetricsRequest{ScaledObjectRef: object, MetricName: spec.GetMetricSpecs()[0].GetMetricName()})
	if err != nil {
		return status.Code(err).String()
	}
	active, err := k.IsActive(ctx, object)
	if err != nil {
		return status.Code(err).String()
	}
	v := m.GetMetricValues()
	if len(v) != 1 || float64(v[0].GetMetricValue()) != v[0].GetMetricValueFloat() {
		t.Errorf("the values are %v", v)
	}
	return fmt.Sprintf("%v workers, active %v", v[0].GetMetricValueFloat(), active.GetResult())
}

func TestConformance(t *testing.T) {
	for _, then := range []string{"inactive", "3", "unavailable"} {
		t.Run("then="+then, func(t *testing.T) {
			actuatortest.Run(t, actuatortest.Harness{Forgets: true, Unit: func(t testing.TB) actuatortest.Unit {
				first := open(t, "externalscaler://127.0.0.1:0?then="+then)
				address, used := first.Addr(), false
				k := keda(t, address, nil)
				return actuatortest.Unit{
					Open: func(t testing.TB) actuator.Driver {
						if !used {
							used = true
							return first
						}
						return open(t, "externalscaler://"+address+"?then="+then)
					},
					Rule: func(t testing.TB) string { return asks(t, k) },
				}
			}})
		})
	}
}

func apply(t testing.TB, d *Driver, n int, life time.Duration) {
	t.Helper()
	if err := d.Apply(t.Context(), orchestrator.Orders{Workers: n}, time.Now().Add(life)); err != nil {
		t.Fatal(err)
	}
}

func TestWhatHoldsWithoutOrders(t *testing.T) {
	for then, want := range map[string]string{
		"inactive": "0 workers, active false", "0": "0 workers, active false", "4": "4 workers, active true", "unavailable": "Unavailable",
	} {
		d := open(t, "externalscaler://:0?then="+then)
		k := keda(t, d.Addr(), nil)
		if got := asks(t, k); got != want {
			t.Errorf("then=%s: %s, want %s", then, got, want)
		}
		apply(t, d, 7, time.Hour)
		if got := asks(t, k); got != "7 workers, active true" {
			t.Errorf("then=%s with orders of 7: %s", then, got)
		}
		apply(t, d, 0, time.Hour)
		if got := asks(t, k); got != "0 workers, active false" {
			t.Errorf("then=%s with orders of 0: %s", then, got)
		}
		if err := d.Revert(t.Context()); err != nil {
			t.Error(err)
		}
		if got := asks(t, k); got != want {
			t.Errorf("then=%s after Revert: %s, want %s", then, got, want)
		}
	}
}

// next receives one message of a stream in good time.
func next(t testing.TB, s grpc.ServerStreamingClient[kedaproto.IsActiveResponse], want bool) {
	t.Helper()
	r, err := s.Recv()
	if err != nil || r.GetResult() != want {
		t.Fatalf("pushed %v, %v, want %v", r, err, want)
	}
}

func TestActivityIsPushed(t *testing.T) {
	d := open(t, "externalscaler://:0")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	k := keda(t, d.Addr(), nil)
	s, err := k.StreamIsActive(ctx, object)
	if err != nil {
		t.Fatal(err)
	}
	next(t, s, false) // at once
	apply(t, d, 3, time.Hour)
	next(t, s, true)
	apply(t, d, 5, time.Hour) // active as before: nothing to say
	apply(t, d, 0, time.Hour)
	next(t, s, false)
	apply(t, d, 3, 500*time.Millisecond)
	next(t, s, true)
	next(t, s, false) // expired
	apply(t, d, 3, 500*time.Millisecond)
	next(t, s, true)
	apply(t, d, 4, time.Hour) // prolonged in time, or active again
	if err := d.Revert(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	// KEDA opens the stream again after an error.
	for {
		if _, err = s.Recv(); err != nil {
			break
		}
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("at Close the stream ends with %v", err)
	}
}

func TestTargetIsPushedAtOnce(t *testing.T) {
	d := open(t, "externalscaler://:0")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := keda(t, d.Addr(), nil).StreamMetricSpec(ctx, object)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Recv()
	if err != nil || r.GetMetricSpecs()[0].GetMetricName() != "freshet-workers" || r.GetMetricSpecs()[0].GetTargetSizeFloat() != 1 {
		t.Errorf("pushed %v, %v", r, err)
	}
	cancel()
	if _, err := s.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("a stream that was cancelled ends with %v", err)
	}
}

func TestOtherObjectsAndMetricsAreRefused(t *testing.T) {
	d := open(t, "externalscaler://:0?object=fraud/scorer&metric=workers-of-scorer")
	k := keda(t, d.Addr(), nil)
	apply(t, d, 4, time.Hour)
	if got := asks(t, k); got != "4 workers, active true" {
		t.Errorf("the one that is meant: %s", got)
	}
	other := &kedaproto.ScaledObjectRef{Name: "other", Namespace: "fraud"}
	if _, err := k.IsActive(t.Context(), other); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another one: %v", err)
	}
	if _, err := k.GetMetricSpec(t.Context(), other); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another one: %v", err)
	}
	if _, err := k.GetMetrics(t.Context(), &kedaproto.GetMetricsRequest{ScaledObjectRef: object, MetricName: "lag"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another metric: %v", err)
	}
	if _, err := k.GetMetrics(t.Context(), &kedaproto.GetMetricsRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("nothing named: %v", err)
	}
	s, err := k.StreamIsActive(t.Context(), other)
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stream for another one: %v", err)
	}
}

func TestStatusNotesWhetherKEDAAsks(t *testing.T) {
	d := open(t, "externalscaler://:0")
	if s, err := d.Status(t.Context()); err != nil || !strings.Contains(s.Note, "nobody has asked") || !strings.Contains(s.Note, d.Addr()) {
		t.Errorf("%+v, %v", s, err)
	}
	asks(t, keda(t, d.Addr(), nil))
	if s, err := d.Status(t.Context()); err != nil || !strings.Contains(s.Note, "KEDA asked last for fraud/scorer") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestURLsAreRead(t *testing.T) {
	for url, want := range map[string]string{
		"externalscaler://":                            "[HOST]:PORT",
		"externalscaler://localhost":                   "[HOST]:PORT",
		"externalscaler://u@localhost:0":               "[HOST]:PORT",
		"externalscaler://0.0.0.0:0":                   "insecure=true",
		"externalscaler://freshet.example:0":           "insecure=true",
		"externalscaler://:0?tls_ca=testdata/none":     "tls_ca",
		"externalscaler+tls://:0":                      "tls_cert",
		"externalscaler://:0?then=never":               "expected inactive",
		"externalscaler://:0?then=-1":                  "expected inactive",
		"externalscaler://:0?metric=Freshet%20Workers": "small letters",
		"externalscaler://:0?insecure=perhaps":         "true or false",
		"externalscaler://:0?them=3":                   `did you mean "then"`,
		"externalscaler://192.0.2.1:1?insecure=true":   "listen",
	} {
		d, err := Open(t.Context(), url, Options{})
		if err == nil {
			d.Close()
		}
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	open(t, "externalscaler://0.0.0.0:0?insecure=true")
	open(t, "externalscaler://[::1]:0")
}
