package brokertest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// Harness starts, restarts and kills the broker under test. Its functions fail
// the test by themselves where they do not succeed.
type Harness struct {
	// Open returns a driver: on a new and empty store for a broker in the
	// process, connected to the running server for others. The suite closes it.
	Open func(t testing.TB) broker.Driver
	// Restart ends the broker in an orderly way, closing d, and returns another
	// driver on the same data. It must be set where Capabilities.Durable is.
	Restart func(t testing.TB, d broker.Driver) broker.Driver
	// Crash ends the broker without warning, as kill -9 or a power cut does, and
	// returns a driver on what is left, when a broker is there again. It may
	// return d itself: a driver that outlives its server connects anew. Else it
	// closes d, and calls on d that are in progress or come later end with
	// errors. RunCrash needs it.
	Crash func(t testing.TB, d broker.Driver) broker.Driver
	// CreateTopic makes a topic where the driver is no Admin.
	CreateTopic func(t testing.TB, d broker.Driver, c broker.TopicConfig)
	// Patience is how long the suite waits for what must happen; 10 s by default.
	Patience time.Duration
	// TimeGranularity is what the broker's clock tells apart in Record.Time, and
	// by how much less than it a record may seem older than its predecessor; 1 ns by default.
	TimeGranularity time.Duration
	// LazyTrim says that the broker frees trimmed records when it likes to, so
	// that they may still be there after Trim.
	LazyTrim bool
	// Parallel lets cases run beside each other, each on the driver that Open
	// gave it. Cases that restart the broker run alone all the same.
	Parallel bool
	// Crashes is how often RunCrash ends the broker; 8 by default.
	Crashes int
	// Against names what the driver talks to, with its version, for the line
	// that says what ran against what.
	Against string
}

// suiteCase is one behaviour of the contract.
type suiteCase struct {
	name string
	// needs says whether the declared capabilities offer what the case is about; nil means always.
	needs func(c broker.Capabilities) bool
	run   func(e *env)
	alone bool // restarts the broker, so that no other case can run beside it
}

func transactions(c broker.Capabilities) bool { return c.Transactions }
func appends(c broker.Capabilities) bool      { return c.Append }
func gaps(c broker.Capabilities) bool         { return !c.Gapless }
func durable(c broker.Capabilities) bool      { return c.Durable }
func admin(c broker.Capabilities) bool        { return c.Admin }
func dedup(c broker.Capabilities) bool        { return c.Dedup }
func maxBatch(c broker.Capabilities) bool     { return c.MaxBatch > 0 }
func maxRecord(c broker.Capabilities) bool    { return c.MaxRecordBytes > 0 }

// Run holds the driver that h opens to the contract of broker.Driver. Each
// case opens its own.
func Run(t *testing.T, h Harness) {
	var ran, skipped atomic.Int64
	var caps atomic.Pointer[broker.Capabilities]
	t.Cleanup(func() { // after parallel cases
		if c := caps.Load(); c != nil {
			t.Logf("ran against %s: %d cases, %d not offered; %s", h.against(), ran.Load()-skipped.Load(), skipped.Load(), describeCaps(*c))
		}
	})
	for _, c := range allCases() {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			if h.Parallel && !c.alone {
				t.Parallel()
			}
			ran.Add(1)
			defer func() {
				if t.Skipped() {
					skipped.Add(1)
				}
			}()
			c.runOn(t, h, func(c broker.Capabilities) { caps.Store(&c) })
		})
	}
}

func (h *Harness) against() string {
	if h.Against == "" {
		return "the driver under test"
	}
	return h.Against
}

// describeCaps is what c declares, for people.
func describeCaps(c broker.Capabilities) string {
	var words []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"transactions", c.Transactions}, {"append", c.Append}, {"admin", c.Admin}, {"dedup", c.Dedup},
		{"durable", c.Durable}, {"gapless positions", c.Gapless},
	} {
		if !f.set {
			f.name = "no " + f.name
		}
		words = append(words, f.name)
	}
	for name, n := range map[string]int{"records a batch": c.MaxBatch, "bytes a record": c.MaxRecordBytes} {
		if n > 0 {
			words = append(words, fmt.Sprintf("at most %d %s", n, name))
		}
	}
	slices.Sort(words[6:])
	return strings.Join(words, ", ")
}

func allCases() []suiteCase {
	var all []suiteCase
	for _, c := range restartCases() {
		c.alone = true
		all = append(all, c)
	}
	for _, cases := range [][]suiteCase{recordCases(), limitCases(), groupCases(), positionCases(), gapCases(), lifecycleCases(), transactionCases(), appendCases()} {
		all = append(all, cases...)
	}
	return all
}

func (c *suiteCase) runOn(t testing.TB, h Harness, saw func(broker.Capabilities)) {
	e := newEnv(t, h)
	if saw != nil {
		saw(e.caps)
	}
	if c.needs != nil && !c.needs(e.caps) {
		t.Skip("the driver's Capabilities do not offer this")
	}
	c.run(e)
}

// env is what one case works with.
type env struct {
	testing.TB
	h    Harness
	ctx  context.Context // of the whole case
	d    broker.Driver
	caps broker.Capabilities
}

func newEnv(t testing.TB, h Harness) *env {
	t.Helper()
	if h.Patience == 0 {
		h.Patience = 10 * time.Second
	}
	if h.TimeGranularity == 0 {
		h.TimeGranularity = 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*h.Patience)
	e := &env{TB: t, h: h, ctx: ctx}
	e.use(h.Open(t))
	t.Cleanup(func() {
		if err := e.d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		cancel()
	})
	if _, ok := e.d.(broker.Transactor); e.caps.Transactions && !ok {
		t.Fatal("Capabilities.Transactions is set, and the driver is no broker.Transactor")
	}
	if _, ok := e.d.(broker.Admin); e.caps.Admin && !ok {
		t.Fatal("Capabilities.Admin is set, and the driver is no broker.Admin")
	}
	if _, ok := e.d.(broker.Appender); e.caps.Append && !ok {
		t.Fatal("Capabilities.Append is set, and the driver is no broker.Appender")
	}
	if !e.caps.Admin && h.CreateTopic == nil {
		t.Fatal("the driver is no Admin, so the harness needs CreateTopic")
	}
	return e
}

func (e *env) use(d broker.Driver) {
	e.d = d
	e.caps = d.Capabilities()
}

func (e *env) restart() {
	e.Helper()
	if e.h.Restart == nil {
		e.Fatal("the driver is Durable, so the harness needs Restart")
	}
	e.use(e.h.Restart(e.TB, e.d))
}

func (e *env) admin() broker.Admin { return e.d.(broker.Admin) }

// name returns a name that no other run has used.
func (e *env) name(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:12]) }

// topic makes a topic with n partitions that keeps everything.
func (e *env) topic(n int) string { e.Helper(); return e.topicWith(broker.TopicConfig{Partitions: n}) }

func (e *env) topicWith(c broker.TopicConfig) string {
	e.Helper()
	c.Name = e.name("suite")
	if !e.caps.Admin {
		e.h.CreateTopic(e.TB, e.d, c)
		return c.Name
	}
	if err := e.admin().CreateTopic(e.ctx, c); err != nil {
		e.Fatalf("CreateTopic: %v", err)
	}
	e.Cleanup(func() { _ = e.admin().DeleteTopic(e.ctx, c.Name) })
	return c.Name
}

// within runs f, which must return within the harness's patience.
func (e *env) within(what string, f func()) {
	e.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t := time.NewTimer(e.h.Patience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		e.Fatalf("%s did not return within %v", what, e.h.Patience)
	}
}

// soon is a context that ends after the harness's patience.
func (e *env) soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.ctx, e.h.Patience)
}

func (e *env) wantKind(what string, err error, kinds ...errkind.Kind) {
	e.Helper()
	if err == nil {
		e.Errorf("%s: no error, want kind %v", what, kinds)
		return
	}
	for _, k := range kinds {
		if errkind.Is(err, k) {
			return
		}
	}
	e.Errorf("%s: kind %v (%v), want %v", what, errkind.Of(err), err, kinds)
}

// wantCanceled holds err to be what a call returns whose context has ended.
func (e *env) wantCanceled(what string, err error) {
	e.Helper()
	if !canceled(err) {
		e.Errorf("%s with an ended context: got %v, want the context's error or kind %v", what, err, errkind.Canceled)
	}
}

func canceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errkind.Is(err, errkind.Canceled)
}

// must stops the case on an error.
func (e *env) must(what string, err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", what, err)
	}
}
