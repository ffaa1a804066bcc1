package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/console"
)

// onJournal opens the journal in dir and serves it.
func onJournal(t testing.TB, dir string) (url string, b *broker.Broker, stop func()) {
	t.Helper()
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b = broker.New(j, broker.Options{})
	srv := httptest.NewServer(console.New(console.Options{Broker: b}).Handler())
	return srv.URL, b, func() {
		srv.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func post(t testing.TB, url, contentType string, body []byte) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	return send(t, req)
}

func get(t testing.TB, url string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, req)
}

func send(t testing.TB, req *http.Request) (status int, answer string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func lines(from, n int) []byte {
	var b bytes.Buffer
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&b, "{\"id\":\"t-%06d\",\"customer\":\"c-%d\",\"note\":%q}\n", i, i%1000, bytes.Repeat([]byte("x"), 240))
	}
	return b.Bytes()
}

func TestWhatWasPostedToTheJournalIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	url, b, stop := onJournal(t, dir)
	if _, err := b.Ensure(context.Background(), broker.TopicConfig{Name: "transactions", Partitions: 1, DedupWindow: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	const n = 3000
	body := lines(0, n)
	if status, answer := post(t, url+"/topics/transactions?id=id&key=customer", "application/x-ndjson", body); status != 200 || answer != "{\"stored\":3000,\"duplicates\":0}\n" {
		t.Fatalf("%d %s", status, answer)
	}
	stop()

	url, _, stop = onJournal(t, dir)
	defer stop()
	if status, got := get(t, url+"/topics/transactions"); status != 200 || got != string(body) {
		t.Errorf("%d, %d bytes came back of %d", status, len(got), len(body))
	}
	if _, answer := post(t, url+"/topics/transactions?id=id", "application/x-ndjson", body); answer != "{\"stored\":0,\"duplicates\":3000}\n" {
		t.Errorf("posted again: %s", answer)
	}
	var info struct{ Records int }
	if _, answer := get(t, url+"/topics/transactions/info"); json.Unmarshal([]byte(answer), &info) != nil || info.Records != n {
		t.Errorf("%s", answer)
	}
	for _, name := range []string{"..", "%2e%2e", "a%2fb", "%00", "nothing"} {
		if status, answer := get(t, url+"/topics/"+name+"/info"); status != 404 {
			t.Errorf("topic %q: %d %s", name, status, answer)
		}
	}
}

// BenchmarkHTTP moves events of 300 bytes over the loopback interface, in and out of the journal.
func BenchmarkHTTP(b *testing.B) {
	const n = 20_000
	url, br, stop := onJournal(b, b.TempDir())
	defer stop()
	for _, topic := range []string{"in", "out"} {
		if _, err := br.Ensure(context.Background(), broker.TopicConfig{Name: topic, Partitions: 4}); err != nil {
			b.Fatal(err)
		}
	}
	body := lines(0, n)
	rate := func(b *testing.B) { b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s") }
	for _, query := range []string{"", "?id=id&key=customer"} {
		b.Run("post"+query, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if status, answer := post(b, url+"/topics/in"+query, "application/x-ndjson", body); status != 200 {
					b.Fatal(answer)
				}
			}
			rate(b)
		})
	}
	if status, answer := post(b, url+"/topics/out", "application/x-ndjson", body); status != 200 {
		b.Fatal(answer)
	}
	b.Run("get", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if status, _ := get(b, url+"/topics/out"); status != 200 {
				b.Fatal(status)
			}
		}
		rate(b)
	})
}
