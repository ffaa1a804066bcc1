package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/lineage"
)

func records(t *testing.T, out string) (rs []lineage.Record) {
	t.Helper()
	for _, l := range lines(out) {
		var r lineage.Record
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		rs = append(rs, r)
	}
	return rs
}

func TestPredictionsTellWhereTheyComeFrom(t *testing.T) {
	data := scoredPayments(t, "2000")
	all := records(t, must(t, "", "lineage", "--data", data, "--limit", "0", "-o", "json"))
	if len(all) != 2000 {
		t.Fatalf("%d predictions of 2000 payments", len(all))
	}
	r := all[100]
	if r.Pipeline != "card-fraud" || r.Event.Topic != "transactions" || r.Result.Route == "" || r.Times.Published == nil || len(r.Features) != 15 ||
		len(r.Answers) != 1 || r.Answers[0].Digest == "" || r.Answers[0].Call == nil || r.Answers[0].Outputs[0].Name != "score" {
		t.Errorf("prediction: %+v", r)
	}
	story := must(t, "", "lineage", r.Event.ID, "--pipeline", cardPipeline, "--data", data)
	for _, want := range []string{"Event " + r.Event.ID + ", key " + r.Event.Key, "transactions, partition ", r.Result.ID, "terminal_risk_7d", "no event after ", r.Answers[0].Digest, "scored by the model"} {
		if !strings.Contains(story, want) {
			t.Errorf("the story lacks %q:\n%s", want, story)
		}
	}
	if got := must(t, "", "lineage", r.Result.ID, "--pipeline", "card-fraud", "--data", data); got != story {
		t.Errorf("by the result's id:\n%s", got)
	}
	one := []string{"lineage", "--data", data, "--key", r.Event.Key, "--from", r.Times.Event.Format("2006-01-02T15:04:05Z"), "--limit", "1000", "-o", "json"}
	for _, k := range records(t, must(t, "", one...)) {
		if k.Event.Key != r.Event.Key || k.Times.Event.Before(r.Times.Event) {
			t.Errorf("key %s gives %s of %s", r.Event.Key, k.Event.ID, k.Event.Key)
		}
	}
	table := must(t, "", "lineage", "--data", data, "--where", `score < 0.5 && role == "champion" && tx_amount > 50.0`, "--limit", "3")
	if n := len(lines(table)); n != 4 || !strings.HasPrefix(table, "TIME ") {
		t.Errorf("table:\n%s", table)
	}
	// The topic itself says the same, without the store.
	if got := must(t, "", "lineage", "--broker", "journal:"+data, "--pipeline", "card-fraud", "--limit", "0", "-o", "json"); !cmp.Equal(records(t, got), all) {
		t.Error("the topic gives others than the store")
	}
	if err := os.RemoveAll(filepath.Join(data, "lineage")); err != nil {
		t.Fatal(err)
	}
	if got := must(t, "", "lineage", "--data", data, "--limit", "0", "-o", "json"); !cmp.Equal(records(t, got), all) {
		t.Error("the store that was made again gives others")
	}
}

func TestPredictionsOfARunningProcessAreTold(t *testing.T) {
	data := scoredPayments(t, "300")
	r := begin(t, "", nil, "run", cardPipeline, "--data", data, "--listen", "127.0.0.1:0")
	r.until(t, r.err, "127.0.0.1:")
	search := []string{"lineage", "--data", data, "--where", "night == 1", "--limit", "10", "-o", "json"}
	there := must(t, "", search...)
	id := records(t, there)[0].Event.ID
	story := must(t, "", "lineage", id, "--data", data)
	if o := exec(t, "", "lineage", "nobody", "--data", data); o.code != exitFailed || !strings.Contains(o.err, "no prediction for the event") {
		t.Errorf("an event that is not there: code %d, %s", o.code, o.err)
	}
	if o := exec(t, "", "lineage", "--where", "scoer > 1.0", "--data", data); o.code == exitDone || !strings.Contains(o.err, "scoer") {
		t.Errorf("a wrong name: code %d, %s", o.code, o.err)
	}
	r.interrupt()
	r.wait(t)
	if d := cmp.Diff(records(t, must(t, "", search...)), records(t, there)); d != "" {
		t.Errorf("(-from the folder +over HTTP):\n%s", d)
	}
	if d := cmp.Diff(must(t, "", "lineage", id, "--data", data), story); d != "" {
		t.Errorf("(-from the folder +over HTTP):\n%s", d)
	}
}

func TestPredictionsAreExported(t *testing.T) {
	data := scoredPayments(t, "500")
	dir := t.TempDir()
	args := []string{"lineage", "export", "--data", data, "--pipeline", cardPipeline}
	if got := must(t, "", append(args, "--format", "parquet", "--out", filepath.Join(dir, "p.parquet"))...); !strings.HasPrefix(got, "500 predictions to ") {
		t.Errorf("parquet: %s", got)
	}
	out := must(t, "", append(args, "--format", "openlineage", "--out", "-")...)
	var e struct {
		EventType string
		Outputs   []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(lines(out)[1]), &e); err != nil || e.EventType != "COMPLETE" || len(e.Outputs) == 0 || e.Outputs[len(e.Outputs)-1].Name != "scored-transactions" {
		t.Errorf("openlineage: %v\n%s", err, out)
	}
	var taken atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/v1/traces" && r.Header.Get("Authorization") == "Bearer s3cret" {
			taken.Add(1)
		}
	}))
	defer srv.Close()
	r := begin(t, "", map[string]string{"TOKEN": "s3cret"}, append(args, "--format", "otel", "--out", srv.URL, "--token-env", "TOKEN")...)
	if o := r.wait(t); o.code != exitDone || taken.Load() == 0 || !strings.HasPrefix(o.out, "500 predictions in ") {
		t.Errorf("otel: code %d, %d requests, %s%s", o.code, taken.Load(), o.out, o.err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestWrongQuestionsAboutPredictionsSayWhatIsWrong(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	must(t, "", "topics", "create", "other", "--data", data)
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no pipeline":     {nil, exitFailed, "there are no predictions"},
		"missing":         {[]string{"--pipeline", "card-fruad"}, exitFailed, "card-fruad-predictions"},
		"missing file":    {[]string{"--pipeline", "nowhere/p.yaml"}, exitUsage, "nowhere/p.yaml"},
		"no time":         {[]string{"--from", "noon"}, exitUsage, `--from "noon"`},
		"id and search":   {[]string{"x", "--key", "k"}, exitUsage, "an event's id and a search"},
		"limit":           {[]string{"--limit", "-1"}, exitUsage, "--limit -1"},
		"no format":       {[]string{"export", "--out", "x"}, exitUsage, "--format"},
		"no out":          {[]string{"export", "--format", "otel"}, exitUsage, "--out"},
		"otel to a file":  {[]string{"export", "--format", "otel", "--out", "x"}, exitUsage, "OTLP receiver"},
		"user in the URL": {[]string{"export", "--format", "otel", "--out", "http://u:hidden@h:1"}, exitUsage, "--token-env"},
		"token":           {[]string{"export", "--format", "otel", "--out", "http://h:1", "--token-env", "NO_SUCH"}, exitUsage, "NO_SUCH"},
	} {
		t.Run(name, func(t *testing.T) {
			o := exec(t, "", append([]string{"lineage", "--data", data}, c.args...)...)
			if o.code != c.code || !strings.Contains(o.err, c.want) || strings.Contains(o.err, "hidden") {
				t.Errorf("code %d, %s", o.code, o.err)
			}
		})
	}
}
