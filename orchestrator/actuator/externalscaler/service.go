package externalscaler

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/freshet-io/freshet/orchestrator/actuator/externalscaler/kedaproto"
)

// service answers KEDA.
type service struct {
	kedaproto.UnimplementedExternalScalerServer
	d *Driver
}

// published is what is told at one moment.
type published struct {
	workers     int
	unavailable bool
	left        time.Duration // until it changes by itself; 0: it does not
	changed     <-chan struct{}
}

// look takes what is told now.
func (d *Driver) look() published {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := published{workers: d.fallback.workers, unavailable: d.fallback.unavailable, changed: d.changed}
	if o := d.inForce(); o != nil {
		p.workers, p.unavailable = o.workers, false
		p.left = max(1, time.Until(o.expires))
	}
	return p
}

// about refuses ScaledObjects that are not ours.
func (s *service) about(ref *kedaproto.ScaledObjectRef) error {
	if name := ref.GetNamespace() + "/" + ref.GetName(); s.d.object != "" && name != s.d.object {
		return status.Errorf(codes.PermissionDenied, "orders here are for the ScaledObject %s, not for %s", s.d.object, name)
	}
	return nil
}

func (s *service) current(ref *kedaproto.ScaledObjectRef) (published, error) {
	if err := s.about(ref); err != nil {
		return published{}, err
	}
	p := s.d.look()
	if p.unavailable {
		return p, status.Error(codes.Unavailable, "no orders are in force")
	}
	return p, nil
}

// IsActive implements KEDA's interface.
func (s *service) IsActive(_ context.Context, ref *kedaproto.ScaledObjectRef) (*kedaproto.IsActiveResponse, error) {
	p, err := s.current(ref)
	if err != nil {
		return nil, err
	}
	return &kedaproto.IsActiveResponse{Result: p.workers > 0}, nil
}

// GetMetrics implements KEDA's interface.
func (s *service) GetMetrics(_ context.Context, r *kedaproto.GetMetricsRequest) (*kedaproto.GetMetricsResponse, error) {
	d, ref := s.d, r.GetScaledObjectRef()
	if err := s.about(ref); err != nil {
		return nil, err
	}
	if name := r.GetMetricName(); name != d.metric {
		return nil, status.Errorf(codes.InvalidArgument, "there is no metric %q here, but %q", name, d.metric)
	}
	d.mu.Lock()
	d.asked, d.asker = time.Now(), ref.GetNamespace()+"/"+ref.GetName()
	d.mu.Unlock()
	p, err := s.current(ref)
	if err != nil {
		return nil, err
	}
	return &kedaproto.GetMetricsResponse{MetricValues: []*kedaproto.MetricValue{{
		MetricName: d.metric, MetricValue: int64(p.workers), MetricValueFloat: float64(p.workers),
	}}}, nil
}

func (s *service) spec() *kedaproto.GetMetricSpecResponse {
	return &kedaproto.GetMetricSpecResponse{MetricSpecs: []*kedaproto.MetricSpec{{MetricName: s.d.metric, TargetSize: 1, TargetSizeFloat: 1}}}
}

// GetMetricSpec implements KEDA's interface.
func (s *service) GetMetricSpec(_ context.Context, ref *kedaproto.ScaledObjectRef) (*kedaproto.GetMetricSpecResponse, error) {
	if err := s.about(ref); err != nil {
		return nil, err
	}
	return s.spec(), nil
}

// StreamIsActive implements KEDA's interface: it says at once whether the trigger is active, and again
// whenever that changes. While metrics are unavailable it says nothing.
func (s *service) StreamIsActive(ref *kedaproto.ScaledObjectRef, stream grpc.ServerStreamingServer[kedaproto.IsActiveResponse]) error {
	if err := s.about(ref); err != nil {
		return err
	}
	expiry := time.NewTimer(time.Hour)
	defer expiry.Stop()
	said, last := false, false
	for {
		p := s.d.look()
		if active := p.workers > 0; !p.unavailable && (!said || active != last) {
			if err := stream.Send(&kedaproto.IsActiveResponse{Result: active}); err != nil {
				return err
			}
			said, last = true, active
		}
		expiry.Stop()
		if p.left > 0 {
			expiry.Reset(p.left)
		}
		select {
		case <-p.changed:
		case <-expiry.C:
		case <-stream.Context().Done():
			return nil
		case <-s.d.done:
			return status.Error(codes.Unavailable, "the scaler ends")
		}
	}
}

// StreamMetricSpec implements KEDA's interface: the target is said at once and never changes.
func (s *service) StreamMetricSpec(ref *kedaproto.ScaledObjectRef, stream grpc.ServerStreamingServer[kedaproto.GetMetricSpecResponse]) error {
	if err := s.about(ref); err != nil {
		return err
	}
	if err := stream.Send(s.spec()); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
		return nil
	case <-s.d.done:
		return status.Error(codes.Unavailable, "the scaler ends")
	}
}
