package worker

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/ort/internal/frame"
)

// engine loads models.
type engine interface {
	// version is the runtime's.
	version() string
	load(l *frame.LoadBody, model []byte) (session, error)
}

// session is a loaded model.
type session interface {
	newLane() (lane, error)
}

// lane runs one call at a time.
type lane interface {
	// run evaluates in. What it returns is valid until the next run.
	run(in []frame.View) ([]inference.Tensor, error)
	// interrupt makes a run under way fail soon; the flag stays until it is taken back.
	interrupt(on bool)
}

// serve speaks the protocol until control ends, which is no error.
func serve(control io.ReadWriter, lanes []io.ReadWriter, e engine) error {
	c := frame.NewConn(control, 64<<20)
	if err := c.WriteJSON(frame.Frame{Kind: frame.Hello}, frame.HelloBody{Version: frame.Version, Runtime: e.version()}); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	s := &server{lanes: make([]served, len(lanes))}
	if err := s.load(c, e); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return errors.Join(err, c.WriteJSON(frame.Frame{Kind: frame.Failed}, failure(err)))
	}
	if err := c.WriteJSON(frame.Frame{Kind: frame.Ready}, struct{}{}); err != nil {
		return err
	}
	for i := range lanes {
		go s.lanes[i].serve(frame.NewConn(lanes[i], math.MaxInt32), &s.loaded)
	}
	for {
		f, err := c.Read()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read control: %w", err)
		}
		if f.Kind == frame.Cancel && int(f.Lane) < len(s.lanes) {
			s.lanes[f.Lane].cancel(f.Seq)
		}
	}
}

type server struct {
	loaded frame.LoadBody
	lanes  []served
}

func (s *server) load(c *frame.Conn, e engine) error {
	f, err := c.Read()
	if err != nil {
		return err
	}
	if f.Kind != frame.Load {
		return errkind.Errorf(errkind.Permanent, "got %v where a model is expected", f.Kind)
	}
	if err := f.JSON(&s.loaded); err != nil {
		return err
	}
	if s.loaded.Size <= 0 || s.loaded.Size > math.MaxInt32 {
		return errkind.Errorf(errkind.Permanent, "a model of %d bytes", s.loaded.Size)
	}
	data, err := c.ReadRaw(s.loaded.Size)
	if err != nil {
		return err
	}
	loaded, err := e.load(&s.loaded, data)
	if err != nil {
		return err
	}
	for i := range s.lanes {
		if s.lanes[i].lane, err = loaded.newLane(); err != nil {
			return err
		}
	}
	return nil
}

func failure(err error) frame.FailedBody {
	return frame.FailedBody{Kind: errkind.Of(err), Message: err.Error()}
}

// served is a lane with what is known of its call.
type served struct {
	lane lane
	in   []frame.View

	mu          sync.Mutex
	seq         uint64 // of the call under way; 0 between calls
	cancelled   uint64 // calls up to this one are not wanted any more
	interrupted bool
}

func (s *served) cancel(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelled = max(s.cancelled, seq)
	if s.seq == seq && !s.interrupted {
		s.interrupted = true
		s.lane.interrupt(true)
	}
}

// begin says whether a call is still wanted.
func (s *served) begin(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq <= s.cancelled {
		return false
	}
	s.seq = seq
	return true
}

func (s *served) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq = 0
	if s.interrupted {
		s.interrupted = false
		s.lane.interrupt(false)
	}
}

// serve answers calls until the lane's socket ends; the process ends with control.
func (s *served) serve(c *frame.Conn, l *frame.LoadBody) {
	for {
		f, err := c.Read()
		if err != nil {
			return
		}
		out, err := s.answer(&f, l)
		if err == nil {
			err = c.WriteTensors(frame.Frame{Kind: frame.Result, Seq: f.Seq}, out)
		} else {
			err = c.WriteJSON(frame.Frame{Kind: frame.Failed, Seq: f.Seq}, failure(err))
		}
		if err != nil {
			return
		}
	}
}

func (s *served) answer(f *frame.Frame, l *frame.LoadBody) (out []inference.Tensor, err error) {
	if f.Kind != frame.Infer {
		return nil, errkind.Errorf(errkind.Permanent, "got %v where a call is expected", f.Kind)
	}
	if s.in, err = frame.Tensors(f.Body, s.in); err != nil {
		return nil, err
	}
	if err := check(l.Inputs, s.in); err != nil {
		return nil, err
	}
	if !s.begin(f.Seq) {
		return nil, errkind.New(errkind.Canceled, "cancelled before it began")
	}
	defer s.end()
	return s.lane.run(s.in)
}

// check holds tensors against the model's inputs.
func check(sigs []frame.Input, in []frame.View) error {
	if len(in) != len(sigs) {
		return errkind.Errorf(errkind.Invalid, "%d inputs, expected %d", len(in), len(sigs))
	}
	for i := range in {
		sig, v := &sigs[i], &in[i]
		fits := v.Type == sig.Type && len(v.Shape) == len(sig.Dims) && v.Count > 0
		for d := 0; fits && d < len(v.Shape); d++ {
			fits = sig.Dims[d] < 0 || sig.Dims[d] == v.Shape[d]
		}
		if !fits {
			return errkind.Errorf(errkind.Invalid, "input %q is %v %v, expected %v %v", sig.Name, v.Type, slices.Clone(v.Shape), sig.Type, sig.Dims)
		}
	}
	return nil
}
