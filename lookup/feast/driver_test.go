package feast

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/lookup/lookuptest"
	"github.com/freshet-io/freshet/test/servers"
)

var _ lookup.Driver = (*Driver)(nil)

const token = "a-token-nobody-may-see"

// put writes rows of a view into the server's online store. Rows with the same
// fields go together: the server's data frames have no nulls among integers.
func put(t testing.TB, address, view, key string, rows []lookuptest.Row) {
	t.Helper()
	groups := map[string][]lookuptest.Row{}
	for _, r := range rows {
		var shape [5]bool
		for i, v := range r.Values {
			shape[i] = v == nil
		}
		groups[fmt.Sprint(shape)] = append(groups[fmt.Sprint(shape)], r)
	}
	for _, group := range groups {
		df := map[string][]any{}
		for _, r := range group {
			df[key] = append(df[key], r.Key)
			df["updated_at"] = append(df["updated_at"], r.At.Format(time.RFC3339))
			for i, v := range r.Values {
				if at, ok := v.(time.Time); ok {
					v = at.Unix()
				}
				name := lookuptest.Fields[i].Name
				df[name] = append(df[name], v)
			}
		}
		body, err := json.Marshal(map[string]any{"feature_view_name": view, "df": df})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post("http://"+address+"/write-to-online-store", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("write rows: %s: %s", resp.Status, answer)
		}
	}
}

func open(t testing.TB, url string, o lookup.Options) *Driver {
	t.Helper()
	d, err := Open(url, o)
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

func TestAgainstAServer(t *testing.T) {
	address := servers.Start(t, "feast")
	t.Run("suite", func(t *testing.T) { suite(t, address) })

	t.Run("integer keys are found, and others are missing", func(t *testing.T) {
		r := lookuptest.Row{Key: "7", Values: [5]any{0.5, int64(1), true, "x", time.Unix(5, 0)}, At: time.Unix(1_700_000_000, 0).UTC()}
		group := map[string][]any{}
		for i, v := range []any{r.Values[0], r.Values[1], r.Values[2], r.Values[3], int64(5)} {
			group[lookuptest.Fields[i].Name] = []any{v}
		}
		group["customer_id"], group["updated_at"] = []any{7}, []any{r.At.Format(time.RFC3339)}
		body, _ := json.Marshal(map[string]any{"feature_view_name": "customers", "df": group})
		resp, err := http.Post("http://"+address+"/write-to-online-store", "application/json", bytes.NewReader(body))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		_ = resp.Body.Close()
		d := open(t, "feast+http://"+address, lookup.Options{From: "customers", Key: "customer_id", Fields: lookuptest.Fields})
		keys := []string{"x", "7", "007", "8", "1e3", "99999999999999999999"}
		var rows lookup.Rows
		rows.Reset(d.Fields(), len(keys))
		if err := d.Get(t.Context(), keys, &rows); err != nil {
			t.Fatal(err)
		}
		var found []bool
		for i := range keys {
			found = append(found, rows.IsFound(i))
		}
		if diff := cmp.Diff([]bool{false, true, false, false, false, false}, found); diff != "" || rows.At[1] != r.At.UnixNano() {
			t.Errorf("found %v at %d", found, rows.At[1])
		}
	})

	t.Run("what is wrong is a Config error that says what", func(t *testing.T) {
		risk := []lookup.Field{{Name: "risk"}}
		for _, c := range []struct {
			name string
			url  string
			o    lookup.Options
			want string
		}{
			{"view", "", lookup.Options{From: "nosuch", Key: "merchant_id", Fields: risk}, "nosuch"},
			{"field", "", lookup.Options{From: "merchants0", Key: "merchant_id", Fields: []lookup.Field{{Name: "rsk"}}}, "rsk"},
			{"key", "", lookup.Options{From: "merchants0", Key: "customer_id", Fields: risk}, "merchant_id"},
			{"path", "/elsewhere", lookup.Options{From: "merchants0", Key: "merchant_id", Fields: risk}, "404"},
		} {
			d := open(t, "feast+http://"+address+c.url, c.o)
			if err := d.Check(t.Context()); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v (kind %v), want a Config error with %q", c.name, err, errkind.Of(err), c.want)
			}
		}
	})

	t.Run("kinds that do not fit make invalid rows", func(t *testing.T) {
		put(t, address, "merchants0", "merchant_id", []lookuptest.Row{
			{Key: "misfit", Values: [5]any{0.5, int64(2), true, "text", time.Unix(5, 0)}, At: time.Unix(1, 0)},
		})
		for _, c := range []struct {
			field string
			kind  event.Kind
			fits  bool
		}{
			{"risk", event.Int, false}, {"visits", event.Float, true}, {"vip", event.Float, false}, {"city", event.Float, false},
			{"vip", event.String, true}, {"risk", event.Bool, false}, {"visits", event.String, true},
		} {
			d := open(t, "feast+http://"+address, lookup.Options{From: "merchants0", Key: "merchant_id", Fields: []lookup.Field{{Name: c.field, Kind: c.kind}}})
			var rows lookup.Rows
			rows.Reset(d.Fields(), 1)
			if err := d.Get(t.Context(), []string{"misfit"}, &rows); err != nil {
				t.Fatal(err)
			}
			if rows.IsFound(0) != c.fits {
				t.Errorf("%s as %v: found %v, reason %v", c.field, c.kind, rows.IsFound(0), rows.Reason(0))
			}
		}
	})
}

func suite(t *testing.T, address string) {
	var tables atomic.Int64
	lookuptest.Run(t, lookuptest.Harness{
		Address:        address,
		Secrets:        []string{token},
		AlwaysTimed:    true,
		NoNegativeZero: true,
		Put: func(t testing.TB, rows []lookuptest.Row) string {
			view := fmt.Sprintf("merchants%d", tables.Add(1))
			put(t, address, view, "merchant_id", rows)
			return view
		},
		Open: func(t testing.TB, address, table string) lookup.Driver {
			d, err := Open("feast+http://"+address+"/", lookup.Options{From: table, Key: "merchant_id", Fields: lookuptest.Fields, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	})
}
