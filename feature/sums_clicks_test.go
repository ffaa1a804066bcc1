package feature

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

// sharedLines returns the lines of a file of the shared data behind its header, or skips.
func sharedLines(t *testing.T, name string) []string {
	t.Helper()
	dirs := []string{os.Getenv("FRESHET_SHARED_DATA")}
	if wd, err := os.Getwd(); err == nil {
		for d := wd; ; d = filepath.Dir(d) {
			dirs = append(dirs, filepath.Join(d, "shared", "data"))
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	for _, d := range dirs {
		file, err := os.Open(filepath.Join(d, name))
		if d == "" || err != nil {
			continue
		}
		var lines []string
		scan := bufio.NewScanner(file)
		for scan.Scan() {
			lines = append(lines, scan.Text())
		}
		if err := scan.Err(); err != nil || file.Close() != nil || len(lines) < 2 {
			t.Fatalf("read %s: %d lines, %v", name, len(lines), err)
		}
		return lines[1:]
	}
	message := "NOT RUN: set FRESHET_SHARED_DATA to the folder that holds " + name
	if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "data") {
		t.Fatal(message)
	}
	t.Skip(message)
	return nil
}

type click struct {
	visitor, session, item string
	day, at                int64
}

// loadClicks reads item views. Their time is the milliseconds since the visit
// began, so a visit is taken to begin at midnight. Visitors without a name are
// told apart by the file's own session.
func loadClicks(t *testing.T) []click {
	var all []click
	for _, line := range sharedLines(t, "clickstream/sample_train-item-views.csv") {
		f := strings.Split(line, ";") // session, user, item, milliseconds, date
		day, err := time.Parse("2006-01-02", f[4])
		if err != nil {
			t.Fatal(err)
		}
		ms, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		c := click{visitor: f[1], session: f[0] + " " + f[4], item: f[2], day: day.UnixNano(), at: day.UnixNano() + ms*1e6}
		if c.visitor == "NA" {
			c.visitor = "session " + f[0]
		}
		all = append(all, c)
	}
	return all
}

// TestSessionsOfAShopAreFound finds the sessions of an e-shop's visitors by their
// silences, and compares them with the session ids that the shop itself gave:
// in the order of time, and in that of the file, where a third of the events is late.
func TestSessionsOfAShopAreFound(t *testing.T) {
	clicks := loadClicks(t)
	for name, order := range map[string]func(a, b click) int{
		"by time":       func(a, b click) int { return int(min(max(a.at-b.at, -1), 1)) },
		"as in the log": func(a, b click) int { return int(min(max(a.day-b.day, -1), 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			rows := slices.Clone(clicks)
			slices.SortStableFunc(rows, order)
			over := 30 * time.Minute
			s, err := NewSums(Config{Windows: []Window{
				{Name: "views", Aggregate: Count, Shape: Session, Over: over},
				{Name: "items", Aggregate: Distinct, Field: "item", Kind: event.String, Shape: Session, Over: over},
				{Name: "about", Aggregate: Distinct, Field: "item", Kind: event.String, Shape: Session, Over: over, Sketch: true},
				{Name: "seconds", Aggregate: Duration, Shape: Session, Over: over},
			}})
			if err != nil {
				t.Fatal(err)
			}
			type visit struct {
				views  int64
				items  map[string]bool
				oldest int64
				newest int64
			}
			visits := map[string]*visit{} // by session, and visitor: some sessions change hands
			late, begun := 0, 0
			out := outFor(4)
			for _, c := range rows {
				b := newBatch(s.Fields(), 1)
				b.set(0, c.visitor, c.at, []any{c.item})
				s.Update(b.asBatch(), out, nil)
				id := c.session + " " + c.visitor
				v := visits[id]
				if v == nil {
					v = &visit{items: map[string]bool{}, oldest: c.at, newest: c.at}
					visits[id] = v
				}
				if c.at < v.newest {
					late++
				}
				v.views++
				v.items[c.item] = true
				v.oldest, v.newest = min(v.oldest, c.at), max(v.newest, c.at)
				if out[0].Ints[0] == 1 {
					begun++
				}
				if out[0].Ints[0] != v.views || out[1].Ints[0] != int64(len(v.items)) || out[2].Ints[0] != int64(len(v.items)) ||
					out[3].Floats[0] != seconds(uint64(c.at-v.oldest)) {
					t.Fatalf("%+v: %d views, %d items (about %d), %v s; the shop's session has %d, %d, %v", c, out[0].Ints[0],
						out[1].Ints[0], out[2].Ints[0], out[3].Floats[0], v.views, len(v.items), seconds(uint64(c.at-v.oldest)))
				}
			}
			if begun != len(visits) || name == "as in the log" && late < len(rows)/5 {
				t.Errorf("%d sessions begun of %d; %d of %d rows late", begun, len(visits), late, len(rows))
			}
			t.Logf("%d views of %d sessions found (%d out of order), each with the shop's own count, items and seconds", len(rows), begun, late)
		})
	}
}
