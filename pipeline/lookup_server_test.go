package pipeline_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/pipeline"
	"github.com/freshet-io/freshet/test/servers"
)

var newYear = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// stored is a row of a shelf; a nil value is null.
type stored struct {
	values []any
	at     time.Time // zero for none
}

// shelf is a server of tables in memory, one key a request, that fails where
// its test says so.
type shelf struct {
	rows map[string]stored
	// get is called before each request, the first being 1, and its error is
	// the answer; nil for a server that is well.
	get func(ctx context.Context, call int, key string) error

	mu    sync.Mutex
	calls int
	keys  map[string]int
}

// shelfTable is one table of a shelf.
type shelfTable struct {
	*shelf
	fields []lookup.Field
}

func (s *shelf) open(_ context.Context, t *pipeline.Table) (lookup.Driver, error) {
	d := &shelfTable{shelf: s}
	for _, f := range t.Fields {
		d.fields = append(d.fields, lookup.Field{Name: f.Name, Kind: f.Kind})
	}
	return d, nil
}

func (*shelfTable) Capabilities() lookup.Capabilities {
	return lookup.Capabilities{MaxKeys: 1, Times: true}
}
func (d *shelfTable) Fields() []lookup.Field    { return d.fields }
func (*shelfTable) Check(context.Context) error { return nil }
func (*shelfTable) Close() error                { return nil }
func (d *shelfTable) Get(ctx context.Context, keys []string, rows *lookup.Rows) error {
	d.mu.Lock()
	d.calls++
	call := d.calls
	if d.keys == nil {
		d.keys = map[string]int{}
	}
	d.keys[keys[0]]++
	d.mu.Unlock()
	if d.get != nil {
		if err := d.get(ctx, call, keys[0]); err != nil {
			return err
		}
	}
	r, ok := d.rows[keys[0]]
	if !ok {
		return nil
	}
	at := int64(lookup.Unknown)
	if !r.at.IsZero() {
		at = r.at.UnixNano()
	}
	rows.Found(0, at)
	for i := range d.fields {
		switch v := r.values[i].(type) {
		case nil:
			rows.Columns[i].SetNull(0)
		case float64:
			rows.Columns[i].Floats[0] = v
		case int:
			rows.Columns[i].Ints[0] = int64(v)
		case string:
			rows.Columns[i].Strings[0] = v
		}
	}
	return nil
}

// asked is how often the shelf was asked for each key.
func (s *shelf) asked() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys
}

// merchantRows is a pipeline that looks merchants up; its two verbs are further keys of
// the table and further fields.
const merchantRows = `
name: looks
source: {topic: payments, contract: @contracts/payment.schema.json, key: customer, partitions: 1}
tables:
  risks: {url: "redis://nowhere", key: merchant, fields: {risk: number, level: integer, tier: string}, cache: {rows: 0}%s}
steps:
  - features:
      shop: {lookup: risks, key: merchant, fields: [risk, level, tier%s], default: {risk: 0.1, level: 7}}
  - route: [{to: looked}]
outputs: {looked: {partitions: 1}}
`

// bought is a payment at a merchant; at none for 0.
func bought(id int, merchant int, at time.Duration) event.Record {
	more := ""
	if merchant != 0 {
		more = fmt.Sprintf(`,"merchant":%d`, merchant)
	}
	return event.Record{Key: []byte("ann"), Value: fmt.Appendf(nil, `{"id":"p%d","customer":"ann","amount":%d,"at":%q%s}`,
		id, id, newYear.Add(at).Format(time.RFC3339), more)}
}

// with makes the pipeline on a shelf, with small frames where frame is not 0.
func (s *setup) with(d *shelf, frame int) *pipeline.Pipeline {
	s.t.Helper()
	spec, faults := pipeline.Load(s.file, nil)
	if faults != nil {
		s.t.Fatal(pipeline.Error(faults))
	}
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(s.open))
	if faults != nil {
		s.t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, pipeline.Deps{Broker: s.b, OpenLookup: d.open})
	if err != nil {
		s.t.Fatal(err)
	}
	if frame > 0 {
		p.Shrink(frame, 4<<10)
	}
	return p
}

func untilIdle(t *testing.T, p *pipeline.Pipeline) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true})
	if ctx.Err() != nil {
		t.Fatal("the run did not end by itself")
	}
	return err
}

// sell makes the payments' topic and publishes there, all in one batch.
func (s *setup) sell(recs ...event.Record) {
	s.t.Helper()
	if err := s.b.CreateTopic(s.t.Context(), broker.TopicConfig{Name: "payments", Partitions: 1}); err != nil {
		s.t.Fatal(err)
	}
	publish(s.t, s.b, "payments", recs...)
}

// looked is what a result says of its look-up.
type looked struct {
	ID                string
	Risk, Level, Tier any
	Complete          any
	Times             any
}

func (s *setup) looked(topic string) (out []looked) {
	s.t.Helper()
	for _, r := range s.read(topic) {
		f := r["features"].(map[string]any)
		out = append(out, looked{r["source_id"].(string), f["shop.risk"], f["shop.level"], f["shop.tier"], r["features_complete"], r["feature_times"]})
	}
	return out
}

var shopRows = map[string]stored{
	"1":  {values: []any{0.5, 3, "gold"}, at: newYear},
	"2":  {values: []any{0.25, nil, nil}},
	"-7": {values: []any{0.75, 4, ""}, at: newYear.Add(time.Hour)},
}

func TestARowOfAServerSaysWhetherItWasThereAndOfWhenItIs(t *testing.T) {
	for _, c := range []struct {
		name, table string
		times       bool
	}{
		{"with times", ", time: at", true},
		{"without", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t, inline(t, fmt.Sprintf(merchantRows, c.table, "")))
			s.sell(bought(1, 1, 0), bought(2, 2, 0), bought(3, 3, 0), bought(4, 0, 0), bought(5, -7, 0))
			d := &shelf{rows: shopRows}
			p := s.with(d, 0)
			if err := untilIdle(t, p); err != nil {
				t.Fatal(err)
			}
			want := []looked{
				{"p1", 0.5, 3.0, "gold", true, map[string]any{"shop": "2026-01-01T00:00:00Z"}},
				{"p2", 0.25, 7.0, nil, true, nil}, // there, with nulls, of unknown age
				{"p3", 0.1, 7.0, nil, false, nil}, // not there
				{"p4", 0.1, 7.0, nil, false, nil}, // no key
				{"p5", 0.75, 4.0, "", true, map[string]any{"shop": "2026-01-01T01:00:00Z"}},
			}
			if !c.times {
				for i := range want {
					want[i].Times = nil
				}
			}
			if diff := cmp.Diff(want, s.looked("looked")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(map[string]int{"1": 1, "2": 1, "3": 1, "-7": 1}, d.asked()); diff != "" {
				t.Errorf("keys asked for (-want +got)\n%s", diff)
			}
			st := p.Stats().Tables[0]
			if st.Found != 3 || st.Missing != 2 || st.Failed != 0 {
				t.Errorf("counted %d found, %d missing, %d failed", st.Found, st.Missing, st.Failed)
			}
		})
	}
}

// TestTheAgeOfARowIsAFeature: as a feature of the result and as an input of the
// model, which here answers a thousandth of its first.
func TestTheAgeOfARowIsAFeature(t *testing.T) {
	text := strings.Replace(fmt.Sprintf(merchantRows, ", time: at", ", risk@age"), "  - route",
		"  - infer: {model: @contracts/../models/two.onnx, inputs: [shop.risk@age, amount], outputs: {score: value}}\n  - route", 1)
	s := newSetup(t, inline(t, text))
	s.open = func(string) (inference.Driver, error) { return refuser{}, nil }
	s.sell(bought(1, 1, 90*time.Second), bought(2, -7, 0), bought(3, 2, 0), bought(4, 9, 0))
	if err := untilIdle(t, s.with(&shelf{rows: shopRows}, 0)); err != nil {
		t.Fatal(err)
	}
	type aged struct{ Age, Score any }
	got := map[string]aged{}
	for _, r := range s.read("looked") {
		got[r["source_id"].(string)] = aged{r["features"].(map[string]any)["shop.risk@age"], r["score"]}
	}
	want := map[string]aged{"p1": {90.0, 0.09}, "p2": {-3600.0, -3.6}, "p3": {}, "p4": {}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// refuses is a server that has merchant 1 alone and cannot be asked for others.
func refuses(kind errkind.Kind) func(context.Context, int, string) error {
	return func(_ context.Context, _ int, key string) error {
		if key != "1" {
			return errkind.New(kind, "the disk is on fire")
		}
		return nil
	}
}

func TestWhatALookUpThatFailsComesToIsTheTablesChoice(t *testing.T) {
	slow := func(ctx context.Context, _ int, key string) error {
		if key == "1" {
			return nil
		}
		<-ctx.Done()
		return errkind.Errorf(errkind.Transient, "too slow: %w", ctx.Err())
	}
	one := looked{"p1", 0.5, 3.0, "gold", true, map[string]any{"shop": "2026-01-01T00:00:00Z"}}
	null := looked{"p3", 0.1, 7.0, nil, false, nil}
	again := one
	again.ID = "p4"
	whole := []looked{one, {"p2", 0.1, 7.0, nil, false, nil}, null, again}
	for _, c := range []struct {
		name, table string
		get         func(context.Context, int, string) error
		want        []looked
		letter      string
	}{
		{"default", "", refuses(errkind.Transient), whole, ""},
		{"default, for good", ", on_error: default", refuses(errkind.Config), whole, ""},
		{"default, slow", ", timeout: 30ms", slow, whole, ""},
		{"dead letter", ", on_error: dead_letter", refuses(errkind.Transient), []looked{one, null, again}, "the disk is on fire"},
		{"dead letter, for good", ", on_error: dead_letter", refuses(errkind.Config), []looked{one, null, again}, "the disk is on fire"},
		{"dead letter, slow", ", on_error: dead_letter, timeout: 30ms", slow, []looked{one, null, again}, "no answer within 30ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, inline(t, fmt.Sprintf(merchantRows, ", time: at"+c.table, "")))
			s.sell(bought(1, 1, 0), bought(2, 2, 0), bought(3, 0, 0), bought(4, 1, 0))
			p := s.with(&shelf{rows: shopRows, get: c.get}, 0)
			if err := untilIdle(t, p); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, s.looked("looked")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			st := p.Stats()
			if tb := st.Tables[0]; tb.Found != 2 || tb.Missing != 1 || tb.Failed != 1 {
				t.Errorf("counted %d found, %d missing, %d failed", tb.Found, tb.Missing, tb.Failed)
			}
			letters := s.read("looks-dead-letters")
			if c.letter == "" {
				if len(letters) != 0 {
					t.Errorf("dead letters %v", letters)
				}
				return
			}
			if len(letters) != 1 || st.DeadLetters["lookup"] != 1 {
				t.Fatalf("dead letters %v, counted %v", letters, st.DeadLetters)
			}
			l := letters[0]
			text := l["error"].(string)
			if l["reason"] != "lookup" || l["step"] != "features" || !strings.Contains(text, `table "risks"`) || !strings.Contains(text, c.letter) || !strings.Contains(l["payload"].(string), `"p2"`) {
				t.Errorf("dead letter %v", l)
			}
		})
	}
}

// sales are payments at five merchants.
func sales(n int) (recs []event.Record, ids []string) {
	for i := range n {
		recs = append(recs, bought(i, 1+i%5, time.Duration(i)*time.Second))
		ids = append(ids, fmt.Sprintf("p%d", i))
	}
	return recs, ids
}

func (s *setup) ids(topic string) (ids []string) {
	for _, r := range s.read(topic) {
		ids = append(ids, r["source_id"].(string))
		if r["features_complete"] != (r["features"].(map[string]any)["shop.tier"] == "gold") {
			s.t.Errorf("result %v", r)
		}
	}
	return ids
}

func TestEventsWaitForAServerThatIsAway(t *testing.T) {
	rows := map[string]stored{}
	for i := 1; i < 5; i++ {
		rows[fmt.Sprint(i)] = stored{values: []any{0.5, i, "gold"}}
	}
	recs, want := sales(200)

	t.Run("and are all scored in order once it is back", func(t *testing.T) {
		t.Parallel()
		s := newSetup(t, inline(t, fmt.Sprintf(merchantRows, ", on_error: wait", "")))
		s.sell(recs...)
		away := func(_ context.Context, call int, _ string) error {
			switch {
			case call > 20 && call <= 27:
				return errkind.New(errkind.Transient, "connection refused")
			case call > 60 && call <= 64:
				return errkind.New(errkind.Throttled, "slow down")
			}
			return nil
		}
		p := s.with(&shelf{rows: rows, get: away}, 16)
		if err := untilIdle(t, p); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.ids("looked")); diff != "" {
			t.Errorf("(-want +got)\n%s", shortened(diff))
		}
		if st := p.Stats(); st.Letters() != 0 || st.Tables[0].Failed != 0 {
			t.Errorf("%d dead letters, %d rows failed", st.Letters(), st.Tables[0].Failed)
		}
	})
	t.Run("also behind a stop", func(t *testing.T) {
		t.Parallel()
		s := newSetup(t, inline(t, fmt.Sprintf(merchantRows, ", on_error: wait", "")))
		s.sell(recs...)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		away := func(_ context.Context, call int, _ string) error {
			if call < 60 {
				return nil
			}
			if call == 70 {
				cancel()
			}
			return errkind.New(errkind.Transient, "connection refused")
		}
		if err := s.with(&shelf{rows: rows, get: away}, 16).Run(ctx, pipeline.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		first := s.ids("looked")
		if len(first) == 0 || len(first) >= len(want) || !slices.Equal(first, want[:len(first)]) {
			t.Fatalf("at the stop %v", first)
		}
		if err := untilIdle(t, s.with(&shelf{rows: rows}, 16)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.ids("looked")); diff != "" {
			t.Errorf("(-want +got)\n%s", shortened(diff))
		}
	})
	t.Run("but not for one that is set up wrongly", func(t *testing.T) {
		t.Parallel()
		s := newSetup(t, inline(t, fmt.Sprintf(merchantRows, ", on_error: wait", "")))
		s.sell(recs...)
		wrong := func(_ context.Context, call int, _ string) error {
			if call > 60 {
				return errkind.New(errkind.Config, "no such column")
			}
			return nil
		}
		err := untilIdle(t, s.with(&shelf{rows: rows, get: wrong}, 16))
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), `table "risks"`) || !strings.Contains(err.Error(), "no such column") {
			t.Fatalf("error %v", err)
		}
		if err := untilIdle(t, s.with(&shelf{rows: rows}, 16)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.ids("looked")); diff != "" {
			t.Errorf("(-want +got)\n%s", shortened(diff))
		}
	})
}

// TestALookUpBeforeAChangeOfKeyTravelsToTheResult: what was looked up by the
// first key feeds a window there, and its value, age and time show in results
// that the second key's stage writes.
func TestALookUpBeforeAChangeOfKeyTravelsToTheResult(t *testing.T) {
	s := newSetup(t, inline(t, `
name: limits
source:
  topic: visits
  contract: @contracts/../shuffle/visit.schema.json
  key: customer
  partitions: 4
  time: {field: at, lateness: 0s, order: seq}
tables:
  limits: {url: "redis://nowhere", key: customer, fields: {limit: number}, time: since}
steps:
  - features:
      person: {lookup: limits, key: customer, fields: [limit, limit@age], default: {limit: 10}}
      limits_1h: {by: customer, sum: person.limit, over: 1h}
      merchant_1h: {by: merchant, sum: limits_1h, over: 30m}
  - route: [{to: visited}]
`))
	createVisits(t, s.b)
	vs := visits(300, 11)
	publish(t, s.b, "visits", records(vs)...)
	// Five customers have a limit, four of them with a time.
	rows := map[string]stored{"c4": {values: []any{1000.0}}}
	limit := func(customer string) float64 {
		if r, ok := rows[customer]; ok {
			return r.values[0].(float64)
		}
		return 10
	}
	for i := range 4 {
		rows[fmt.Sprintf("c%d", i)] = stored{values: []any{float64(100 * (i + 1))}, at: newYear.Add(time.Duration(i) * time.Minute)}
	}
	type visited struct {
		Limit, Age, Sum any
		Complete, Times any
	}
	want := map[string]visited{}
	for i, v := range vs {
		sum := 0.0
		for _, u := range vs[:i+1] {
			if u.customer == v.customer && v.at-u.at < time.Hour {
				sum += limit(u.customer)
			}
		}
		w := visited{limit(v.customer), nil, sum, false, nil}
		if r, ok := rows[v.customer]; ok {
			w.Complete = true
			if !r.at.IsZero() {
				w.Age, w.Times = newYear.Add(v.at).Sub(r.at).Seconds(), map[string]any{"person": r.at.Format(time.RFC3339)}
			}
		}
		want[fmt.Sprintf("v%d", v.seq)] = w
	}
	if err := untilIdle(t, s.with(&shelf{rows: rows}, 32)); err != nil {
		t.Fatal(err)
	}
	got := map[string]visited{}
	for _, r := range s.read("visited") {
		f := r["features"].(map[string]any)
		got[r["source_id"].(string)] = visited{f["person.limit"], f["person.limit@age"], f["limits_1h"], r["features_complete"], r["feature_times"]}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", shortened(diff))
	}
}

func TestRowsOfAFileMayHaveTimes(t *testing.T) {
	s := newSetup(t, inline(t, `
name: looks
source: {topic: payments, contract: @contracts/payment.schema.json, key: customer, partitions: 1}
tables:
  limits: {file: @contracts/../tables/limits.csv, key: merchant, time: since}
steps:
  - features:
      limit: {lookup: limits, key: merchant, fields: [amount, amount@age], default: {amount: 1}}
  - route: [{to: looked}]
`))
	s.sell(bought(1, 1, time.Minute), bought(2, 2, time.Minute), bought(3, 3, 0), bought(4, 0, 0))
	s.mustRun()
	type limited struct{ Amount, Age, Complete, Times any }
	got := map[string]limited{}
	for _, r := range s.read("looked") {
		f := r["features"].(map[string]any)
		got[r["source_id"].(string)] = limited{f["limit.amount"], f["limit.amount@age"], r["features_complete"], r["feature_times"]}
	}
	want := map[string]limited{
		"p1": {500.0, 60.0, true, map[string]any{"limit": "2026-01-01T00:00:00Z"}},
		"p2": {900.0, 60.0 - 86400, true, map[string]any{"limit": "2026-01-02T00:00:00Z"}},
		"p3": {1.0, nil, false, nil},
		"p4": {1.0, nil, false, nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFeaturesAreLookedUpInARedisServer(t *testing.T) {
	address := servers.Start(t, "redis")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Redis takes commands as lines of words, too.
	fmt.Fprintf(c, "AUTH %s\r\nHSET shop:1 risk 0.5 level 3 tier gold at 2026-01-01T00:00:00Z\r\nHSET shop:2 risk 0.25\r\nHSET shop:3 risk high\r\nQUIT\r\n", servers.Password)
	if answer, err := io.ReadAll(c); err != nil || strings.Contains(string(answer), "-") {
		t.Fatalf("%q, %v", answer, err)
	}
	t.Setenv("REDIS_PASSWORD", servers.Password)
	s := newSetup(t, inline(t, strings.Replace(fmt.Sprintf(merchantRows, `, time: at, from: "shop:", on_error: wait`, ""), "nowhere", address, 1)))
	spec, faults := pipeline.Load(s.file, nil)
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(s.open))
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, builtin.PipelineDeps(s.b, nil, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	s.sell(bought(1, 1, 0), bought(2, 2, 0), bought(3, 3, 0), bought(4, 4, 0), bought(5, 0, 0), bought(6, 1, time.Hour))
	if err := untilIdle(t, p); err != nil {
		t.Fatal(err)
	}
	at := map[string]any{"shop": "2026-01-01T00:00:00Z"}
	want := []looked{
		{"p1", 0.5, 3.0, "gold", true, at},
		{"p2", 0.25, 7.0, nil, true, nil},
		{"p3", 0.1, 7.0, nil, false, nil}, // "high" is no number
		{"p4", 0.1, 7.0, nil, false, nil},
		{"p5", 0.1, 7.0, nil, false, nil},
		{"p6", 0.5, 3.0, "gold", true, at},
	}
	if diff := cmp.Diff(want, s.looked("looked")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
