package cli

import (
	"bytes"
	"encoding/json"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/feature/parquet"
)

const cardPipeline = "../../examples/card-fraud/pipeline.yaml"

// scoredPayments makes a folder with the results of so many generated payments.
func scoredPayments(t *testing.T, count string) (data string) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	must(t, "", "produce", "--pipeline", cardPipeline, "--data", data, "--generate", "card-fraud", "--count", count, "--seed", "3")
	must(t, "", "run", cardPipeline, "--data", data, "--until-idle")
	return data
}

func TestFeaturesAreExportedOnce(t *testing.T) {
	data := scoredPayments(t, "3000")
	out := filepath.Join(t.TempDir(), "training")
	args := []string{"features", "export", cardPipeline, "--data", data, "--out", out}
	var sum parquet.Summary
	if err := json.Unmarshal([]byte(must(t, "", append(args, "-o", "json")...)), &sum); err != nil {
		t.Fatal(err)
	}
	if sum.Rows != 3000 || sum.Files == 0 || sum.Unreadable != 0 || len(sum.Features) < 9 {
		t.Errorf("got %+v", sum)
	}
	if o := exec(t, "", args...); o.code != exitUsage || !strings.Contains(o.err, "--overwrite") {
		t.Errorf("the second time: code %d, %s", o.code, o.err)
	}
	text := must(t, "", append(args, "--overwrite", "--from", "2018-04-01T06:00:00Z", "--to", "2018-04-02")...)
	if !strings.Contains(text, " rows in ") || !strings.Contains(text, "outside of the times") {
		t.Errorf("got %q", text)
	}
	if _, err := os.Stat(filepath.Join(out, "date=2018-04-01", "hour=06", "part-0.parquet")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(out, "date=2018-04-01", "hour=05")); err == nil {
		t.Error("an hour before --from is there")
	}
}

func TestExportOfWrongArgumentsSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no folder":     {nil, "--out: name the folder"},
		"no time":       {[]string{"--out", "x", "--from", "noon"}, `--from "noon": expected a date`},
		"times swapped": {[]string{"--out", "x", "--from", "2018-05-01", "--to", "2018-04-01"}, "expected an earlier time first"},
		"no data":       {[]string{"--out", filepath.Join(dir, "x")}, "does not exist"},
		"output":        {[]string{"--out", "x", "--output", "xml"}, "expected text or json"},
	} {
		t.Run(name, func(t *testing.T) {
			o := exec(t, "", append([]string{"features", "export", cardPipeline, "--data", filepath.Join(dir, "data")}, c.args...)...)
			if o.code == exitDone || !strings.Contains(o.err, c.want) || strings.Count(o.err, "\n") != 1 {
				t.Errorf("code %d, standard error:\n%s", o.code, o.err)
			}
		})
	}
	must(t, "", "topics", "create", "scored-transaction", "--data", filepath.Join(dir, "data"))
	o := exec(t, "", "features", "export", cardPipeline, "--data", filepath.Join(dir, "data"), "--out", filepath.Join(dir, "x"))
	if o.code != exitFailed || !strings.Contains(o.err, `did you mean "scored-transaction"`) {
		t.Errorf("a missing topic: code %d, %s", o.code, o.err)
	}
}

func TestFeaturesOfARunningProcessAreExported(t *testing.T) {
	data := scoredPayments(t, "500")
	r := begin(t, "", nil, "broker", "--data", data, "--listen", "127.0.0.1:0")
	r.until(t, r.err, "127.0.0.1:")
	var there, here parquet.Summary
	export := func(out string, sum *parquet.Summary) {
		text := must(t, "", "features", "export", cardPipeline, "--data", data, "--out", filepath.Join(t.TempDir(), out), "-o", "json")
		if err := json.Unmarshal([]byte(text), sum); err != nil {
			t.Fatal(err)
		}
		sum.Dir = ""
	}
	export("there", &there)
	r.interrupt()
	r.wait(t)
	export("here", &here)
	if there.Rows != 500 || there.Bytes == 0 || there.Rows != here.Rows || there.Duplicates != here.Duplicates || there.Files != here.Files {
		t.Errorf("over HTTP %+v, from the folder %+v", there, here)
	}
}

// pyarrow finds a Python with pandas and pyarrow, or skips.
func pyarrow(t *testing.T) string {
	t.Helper()
	python := os.Getenv("FRESHET_PYTHON")
	if python == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		python = filepath.Join(cache, "freshet", "python", "bin", "python3")
	}
	for _, p := range []string{python, "python3"} {
		if osexec.CommandContext(t.Context(), p, "-c", "import pandas, pyarrow.dataset").Run() == nil {
			return p
		}
	}
	const message = "NOT RUN: no Python with pandas and pyarrow: run test/prepare.sh, or name one in FRESHET_PYTHON"
	if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "pyarrow") {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// TestPandasReadsWhatConsumeGives compares every value of an export, as pandas
// has it, with the results as consume writes them.
func TestPandasReadsWhatConsumeGives(t *testing.T) {
	python := pyarrow(t)
	data := scoredPayments(t, "5000")
	dir := t.TempDir()
	out, lines := filepath.Join(dir, "training"), filepath.Join(dir, "results.jsonl")
	must(t, "", "features", "export", cardPipeline, "--data", data, "--out", out)
	results := must(t, "", "consume", "scored-transactions", "--data", data, "--output", "event")
	if err := os.WriteFile(lines, []byte(results), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := osexec.CommandContext(t.Context(), python, filepath.Join("testdata", "features", "compare.py"), out, lines)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	if !strings.HasPrefix(stdout.String(), "5000 rows, ") {
		t.Errorf("got %s", stdout.String())
	}
	t.Log(stdout.String())
}
