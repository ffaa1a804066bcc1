package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/pipeline"
)

// predictions are those of a pipeline, wherever they are read.
type predictions interface {
	event(ctx context.Context, id string) ([]lineage.Record, error)
	search(ctx context.Context, q lineage.Query, visit func(*lineage.Record) bool) error
}

// withPredictions calls do with the predictions of a pipeline: those of a broker's
// topic, of the store in the data folder, or, where another process holds that, of its HTTP API.
func (a *app) withPredictions(ctx context.Context, name string, do func(predictions) error) error {
	spec := &pipeline.Spec{}
	if name != "" {
		var err error
		if spec, err = a.pipelineName(name); err != nil {
			return err
		}
	}
	address := "" // of the process that holds the data folder
	if a.brokerURL == "" {
		owner, held, err := builtin.FindOwner(a.data)
		if err != nil {
			return err
		}
		if held {
			address = owner.Address
		}
	}
	return withBroker(ctx, a.openExisting, func(b *broker.Broker) error {
		if spec.Name == "" {
			var err error
			if spec, err = onlyPipeline(ctx, b); err != nil {
				return err
			}
		}
		if address != "" {
			return a.remotePredictions(ctx, address, spec.Name, do)
		}
		return a.ownPredictions(ctx, b, spec, do)
	})
}

// ownPredictions reads what this process can open itself.
func (a *app) ownPredictions(ctx context.Context, b *broker.Broker, spec *pipeline.Spec, do func(predictions) error) (err error) {
	topic := spec.Predictions()
	if _, err := b.Describe(ctx, topic, ""); err != nil {
		return a.nameTopics(ctx, b, topic, err)
	}
	var done, total atomic.Int64
	told := func(d, t int64) {
		done.Store(d)
		total.Store(t)
	}
	p := a.startProgress(func(time.Duration) string {
		return fmt.Sprintf("%s %s of %s messages of predictions", bar(done.Load(), total.Load(), 20), group(done.Load()), group(total.Load()))
	})
	finish := sync.OnceFunc(p.finish)
	defer finish()
	if a.brokerURL != "" {
		return do(&ownPredictions{&lineage.Topic{Broker: b, Name: topic, Progress: told}, finish})
	}
	s, err := lineage.OpenStore(filepath.Join(a.data, lineageFolder, spec.Name), lineage.StoreOptions{Logger: a.log, Now: a.Now, Policy: keptOf(spec)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	x := lineage.NewIndexer(b, topic, s)
	x.Progress = told
	if err := x.CatchUp(ctx); err != nil {
		if ctx.Err() != nil {
			return errkind.New(errkind.Canceled, "interrupted; the next call goes on where this one stopped")
		}
		return err
	}
	return do(&ownPredictions{s, finish})
}

// lineageFolder is that of the stores of predictions in the data folder.
const lineageFolder = "lineage"

// keptOf is what a pipeline's file says of how long records are kept; without the
// file nothing is said.
func keptOf(s *pipeline.Spec) (p lineage.Policy) {
	for _, k := range s.Record.Keep {
		p.Keep = append(p.Keep, lineage.Rule{When: k.When, Share: k.Share, For: k.For})
	}
	if len(p.Keep) == 0 && s.File != "" {
		p.Keep = []lineage.Rule{{For: s.Record.Retention}}
	}
	return p
}

type ownPredictions struct {
	lineage.Records
	found func() // called before anything is given
}

func (o *ownPredictions) event(ctx context.Context, id string) ([]lineage.Record, error) {
	found, err := o.Event(ctx, id)
	o.found()
	out := make([]lineage.Record, len(found))
	for i := range found {
		out[i] = found[i].Record()
	}
	return out, err
}

func (o *ownPredictions) search(ctx context.Context, q lineage.Query, visit func(*lineage.Record) bool) error {
	return o.Search(ctx, q, func(p lineage.Prediction) bool {
		o.found()
		r := p.Record()
		return visit(&r)
	})
}

// remoteLineage asks the process that holds the data folder.
type remoteLineage struct {
	*remote
	pipeline string
}

func (a *app) remotePredictions(ctx context.Context, address, name string, do func(predictions) error) error {
	token, _ := a.lookupEnv("FRESHET_TOKEN")
	r, err := dialHTTP(ctx, address, token, a.Now)
	if err != nil {
		return err
	}
	defer r.Close()
	return do(&remoteLineage{r, name})
}

func (r *remoteLineage) path() string {
	return "/pipelines/" + url.PathEscape(r.pipeline) + "/lineage"
}

// remotePatience is how long a process is given to make its store of predictions.
const remotePatience = 30 * time.Minute

// ask sends a request, again while the process says that it is making its store.
func (r *remoteLineage) ask(ctx context.Context, path string, q url.Values) (*http.Response, error) {
	for began := r.now(); ; {
		res, err := r.do(ctx, http.MethodGet, path, q, "", nil)
		if !errkind.Is(err, errkind.Transient) || r.now().Sub(began) > remotePatience || !wait(ctx, time.Second) {
			return res, err
		}
	}
}

func (r *remoteLineage) event(ctx context.Context, id string) ([]lineage.Record, error) {
	res, err := r.ask(ctx, r.path()+"/"+url.PathEscape(id), nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var in struct{ Predictions []lineage.Record }
	if err := json.NewDecoder(res.Body).Decode(&in); err != nil || len(in.Predictions) == 0 {
		return nil, errkind.Errorf(errkind.Permanent, "read the answer of %s: %w", r.base, cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return in.Predictions, nil
}

func (r *remoteLineage) search(ctx context.Context, q lineage.Query, visit func(*lineage.Record) bool) error {
	v := url.Values{}
	for name, text := range map[string]string{"where": q.Where, "key": q.Key} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for name, t := range map[string]time.Time{"from": q.From, "to": q.To} {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := r.ask(ctx, r.path(), v)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for in := json.NewDecoder(bufio.NewReaderSize(res.Body, 64<<10)); ; {
		var rec lineage.Record
		switch err := in.Decode(&rec); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errkind.Errorf(errkind.Transient, "read the answer of %s: %w", r.base, err)
		}
		if !visit(&rec) {
			return nil
		}
	}
}

// lineageLibrary is what the HTTP API of a process answers questions about
// predictions from. It is closed before the broker is.
func (a *app) lineageLibrary(b *broker.Broker, own *pipeline.Spec) *lineage.Library {
	return lineage.NewLibrary(lineage.LibraryOptions{
		Broker: b, Dir: filepath.Join(a.data, lineageFolder), Logger: a.log,
		Topic: func(name string) string { return (&pipeline.Spec{Name: name}).Predictions() },
		Policy: func(name string) lineage.Policy {
			if own != nil && own.Name == name {
				return keptOf(own)
			}
			return lineage.Policy{}
		},
	})
}
