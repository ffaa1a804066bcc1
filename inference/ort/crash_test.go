package ort

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
)

func freeze(t testing.TB, d inference.Driver) func() {
	pid := d.(*Driver).pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// The signal is on its way; what counts is that all threads stand.
	patiently(t, "a frozen worker", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, path := range stats {
			stat, _ := os.ReadFile(path)
			if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return len(stats) > 0
	})
	return func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
}

// patiently waits until what is expected has come.
func patiently(t testing.TB, what string, come func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !come(); {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// pid is the worker's process; it waits for one where there is none.
func (d *Driver) pid() int {
	for {
		d.workers.mu.Lock()
		changed := d.workers.changed
		d.workers.mu.Unlock()
		if p := d.workers.current.Load(); p != nil && !p.isDead() {
			return p.cmd.Process.Pid
		}
		<-changed
	}
}

func TestTheDriverKeepsItsContractWithAnyWorker(t *testing.T) {
	path := fakeFile(t)
	o := fake(t, sound)
	o.killAfter = time.Minute
	inferencetest.Run(t, inferencetest.Harness{
		Open:     func(t testing.TB) inference.Driver { return openModel(t, path, o) },
		Freeze:   freeze,
		Patience: time.Minute,
		Faults: []inferencetest.Fault{
			{Name: "answers lack a row", Kind: errkind.Permanent, Open: func(t testing.TB) inference.Driver { return openFaulty(t, path, wrongRows) }, In: row(1)},
			{Name: "answers of another type", Kind: errkind.Permanent, Open: func(t testing.TB) inference.Driver { return openFaulty(t, path, wrongType) }, In: row(1)},
		},
	})
}

// zeroed gives zeros for rows of the suite, which a faulty worker answers well.
type zeroed struct{ *Driver }

func (z zeroed) Infer(ctx context.Context, in, out []inference.Tensor) error {
	if in[0].Rows() != 1 {
		in = []inference.Tensor{in[0]}
		in[0].F32 = make([]float32, len(in[0].F32))
	}
	return z.Driver.Infer(ctx, in, out)
}

func openFaulty(t testing.TB, path, what string) inference.Driver {
	return zeroed{openModel(t, path, fake(t, what))}
}

func TestWorkersThatDoNotStartAreNamed(t *testing.T) {
	path := fakeFile(t)
	for what, want := range map[string]struct {
		kind errkind.Kind
		word string
	}{
		otherWords:  {errkind.Config, "same release"},
		noLibrary:   {errkind.Config, "no such library"},
		refuses:     {errkind.Invalid, "no such operator"},
		diesLoading: {errkind.Permanent, "unexpected signal"},
	} {
		if _, err := Open(t.Context(), path, fake(t, what)); !errkind.Is(err, want.kind) || !strings.Contains(err.Error(), want.word) {
			t.Errorf("%s: %v (%v)", what, err, errkind.Of(err))
		}
	}
	o := fake(t, sound)
	o.Worker, o.Env = "", func(string) (string, bool) { return "", false }
	if _, err := Open(t.Context(), path, o); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), EnvWorker) {
		t.Error(err)
	}
	o = fake(t, sound)
	if _, err := Open(t.Context(), path+"x", o); !errkind.Is(err, errkind.NotFound) {
		t.Error(err)
	}
	o.MaxBytes = 10
	if _, err := Open(t.Context(), path, o); !errkind.Is(err, errkind.Exhausted) {
		t.Error(err)
	}
	o.Settings = map[string]any{"thread": 2}
	if _, err := Open(t.Context(), path, o); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), `"threads"`) {
		t.Error(err)
	}
	o.Settings = map[string]any{"memory": "3 cows"}
	if _, err := Open(t.Context(), path, o); !errkind.Is(err, errkind.Config) {
		t.Error(err)
	}
}

func TestRowsThatEndTheWorkerAreRefusedAndOthersAreNot(t *testing.T) {
	d := openModel(t, fakeFile(t), fake(t, sound))
	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range 2 {
		others.Go(func() {
			out := make([]inference.Tensor, 1)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				v := float32(i*100000 + n%1000)
				switch err := d.Infer(t.Context(), row(v), out); {
				case err == nil && out[0].F32[0] != v+1:
					t.Errorf("%v: %v", v, out[0].F32)
				case err != nil && !errkind.Is(err, errkind.Transient):
					t.Errorf("sound rows: %v", err)
				}
			}
		})
	}
	out := make([]inference.Tensor, 1)
	for i := range guilty + 3 {
		err := d.Infer(t.Context(), row(poison), out)
		want := errkind.Transient
		if i+1 >= guilty {
			want = errkind.Permanent
		}
		if !errkind.Is(err, want) || i < guilty && !strings.Contains(err.Error(), "SIGSEGV") {
			t.Errorf("call %d: %v (%v)", i+1, err, errkind.Of(err))
		}
	}
	close(stop)
	others.Wait()
	pid := d.pid()
	if err := d.Infer(t.Context(), row(poison), out); !errkind.Is(err, errkind.Permanent) || d.pid() != pid {
		t.Errorf("the worker was tried again: %v", err)
	}
}

func TestAWorkerThatEndsAgainAndAgainIsLeftAlone(t *testing.T) {
	o := fake(t, sound)
	o.pauses = []time.Duration{time.Millisecond, time.Millisecond, time.Hour}
	d := openModel(t, fakeFile(t), o)
	out := make([]inference.Tensor, 1)
	for i := range 3 {
		if err := d.Infer(t.Context(), row(poison), out); err == nil {
			t.Fatal(i)
		}
	}
	patiently(t, "the long pause", func() bool {
		err := d.Infer(t.Context(), row(1), out)
		var ra *inference.RetryAfter
		return errkind.Is(err, errkind.Transient) && errors.As(err, &ra) && ra.After > 50*time.Minute
	})
}

func TestACallBeyondItsDeadline(t *testing.T) {
	d := openModel(t, fakeFile(t), fake(t, sound))
	out := make([]inference.Tensor, 1)
	try := func(v float32) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := d.Infer(ctx, row(v), out)
		if time.Since(began) > 30*time.Second {
			t.Errorf("it took %v", time.Since(began))
		}
		return err
	}
	pid := d.pid()
	if err := try(slow); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := d.Infer(t.Context(), row(2), out); err != nil || out[0].F32[0] != 3 || d.pid() != pid {
		t.Errorf("one that heeds its interruption cost the worker: %v", err)
	}
	if err := try(endless); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	patiently(t, "another worker", func() bool { return d.pid() != pid })
	for range 10 {
		if err := d.Infer(t.Context(), row(2), out); err != nil || out[0].F32[0] != 3 {
			t.Errorf("%v %v", out, err)
		}
	}
}

func TestACallGivenUpInTheMiddleOfItsRowsHarmsNoOther(t *testing.T) {
	o := fake(t, sound)
	o.killAfter = time.Minute
	d := openModel(t, fakeFile(t), o)
	pid := d.pid()
	const rows = 1 << 20 // more than sockets hold
	big := []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int{rows, 2}, F32: make([]float32, 2*rows)}}
	thaw := freeze(t, d)
	for range cap(d.pool) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := d.Infer(ctx, big, make([]inference.Tensor, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		// The caller's storage is its own again.
		for i := range big[0].F32 {
			big[0].F32[i] = poison
		}
		big[0].F32 = make([]float32, 2*rows)
	}
	thaw()
	for i := range 2 * cap(d.pool) {
		out := make([]inference.Tensor, 1)
		if err := d.Infer(t.Context(), row(float32(i)), out); err != nil || out[0].F32[0] != float32(i+1) {
			t.Errorf("%v %v", out, err)
		}
	}
	if d.pid() != pid {
		t.Error("the worker read what was not its own")
	}
}

func TestSuspicionEndsAndGuiltStays(t *testing.T) {
	s := newSuspects()
	s.add(s.hash(row(1)))
	for range guilty {
		s.add(s.hash(row(2)))
	}
	if s.of(row(1)) != 1 || s.of(row(2)) != guilty || s.of(row(3)) != 0 {
		t.Error("not remembered")
	}
	s.look = time.Now().Add(-time.Second)
	s.of(row(3))
	if s.of(row(1)) != 0 || s.of(row(2)) != guilty {
		t.Error("not forgotten, or too much")
	}
	for i := range 3 * maxSuspects {
		s.add(s.hash(row(float32(i))))
	}
	if len(s.ends) > maxSuspects {
		t.Errorf("%d are remembered", len(s.ends))
	}
}

func TestGarbageFromTheWorkerIsAnError(t *testing.T) {
	o := fake(t, garbage)
	d := openModel(t, fakeFile(t), o)
	out := make([]inference.Tensor, 1)
	for i := range 30 {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if err := d.Infer(ctx, row(float32(i+1)), out); !errkind.Is(err, errkind.Transient) && !errkind.Is(err, errkind.Permanent) {
			t.Errorf("%v (%v)", err, errkind.Of(err))
		}
		cancel()
	}
	if err := d.Infer(t.Context(), row(0), out); err != nil || out[0].F32[0] != 1 {
		t.Errorf("afterwards: %v %v", out, err)
	}
}

func TestAChangedFileIsNotLoadedAgain(t *testing.T) {
	path := fakeFile(t)
	o := fake(t, sound)
	o.wait = 100 * time.Millisecond
	d := openModel(t, path, o)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(d.pid(), syscall.SIGKILL)
	out := make([]inference.Tensor, 1)
	patiently(t, "the reason", func() bool {
		err := d.Infer(t.Context(), row(1), out)
		return err != nil && strings.Contains(err.Error(), "changed")
	})
}

func TestKilledWorkersComeBack(t *testing.T) {
	o := native(t)
	o.pauses = []time.Duration{time.Millisecond}
	o.wait = time.Minute
	d := openModel(t, testdata("hist-boosting"), o)
	meta := d.Metadata()
	var answered, failed atomic.Int64
	stop := make(chan struct{})
	var calls sync.WaitGroup
	for i := range 4 {
		calls.Go(func() {
			out := make([]inference.Tensor, len(meta.Outputs))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				in := random(meta, 500, uint64(i*1000+n))
				switch err := d.Infer(t.Context(), in, out); {
				case err == nil:
					answered.Add(1)
				case errkind.Is(err, errkind.Transient):
					failed.Add(1)
				default:
					t.Errorf("%v (%v)", err, errkind.Of(err))
				}
			}
		})
	}
	for range 5 {
		pid, before := d.pid(), answered.Load()
		patiently(t, "an answer", func() bool { return answered.Load() > before })
		_ = syscall.Kill(pid, syscall.SIGKILL)
		patiently(t, "another worker", func() bool { return d.pid() != pid })
	}
	before := answered.Load()
	patiently(t, "an answer", func() bool { return answered.Load() > before })
	close(stop)
	calls.Wait()
	t.Logf("%d calls answered, %d failed", answered.Load(), failed.Load())
}

func TestTheWorkerEndsWithItsParent(t *testing.T) {
	if path := os.Getenv("FRESHET_TEST_PARENT"); path != "" { // the parent that is killed
		d, err := Open(context.Background(), path, Options{Worker: os.Getenv(EnvWorker), Library: os.Getenv(EnvLibrary)})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\nworker %d\n", d.pid())
		select {}
	}
	o := native(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "FRESHET_TEST_PARENT="+testdata("ridge-double"), EnvWorker+"="+o.Worker, EnvLibrary+"="+o.Library)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(stdout); pid == 0 && lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "worker "); ok {
			pid, _ = strconv.Atoi(text)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if pid == 0 {
		t.Fatal("the parent did not start a worker")
	}
	patiently(t, "the worker's end", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// chain is a TreeEnsembleRegressor of one tree that is depth deep.
func chain(depth int) []byte {
	var ids, trees, features, yes, no, values, modes []byte
	node := sub(sub(nil, 1, []byte("x")), 2, []byte("y"))
	node = sub(sub(node, 4, []byte("TreeEnsembleRegressor")), 7, []byte("ai.onnx.ml"))
	one := func(b []byte, v int) []byte { return appendVarint(b, v) }
	for i := range depth {
		ids, trees, features = one(ids, 2*i), one(trees, 0), one(features, 0)
		yes, no, values = one(yes, 2*i+1), one(no, 2*i+2), append(values, 0, 0, 0, 0)
		modes = sub(modes, 9, []byte("BRANCH_LEQ"))
		ids, trees, features = one(ids, 2*i+1), one(trees, 0), one(features, 0)
		yes, no, values = one(yes, 0), one(no, 0), append(values, 0, 0, 0, 0)
		modes = sub(modes, 9, []byte("LEAF"))
	}
	ids, trees, features = one(ids, 2*depth), one(trees, 0), one(features, 0)
	yes, no, values = one(yes, 0), one(no, 0), append(values, 0, 0, 0, 0)
	modes = sub(modes, 9, []byte("LEAF"))
	ints := func(name string, b []byte) {
		node = sub(node, 5, number(sub(sub(nil, 1, []byte(name)), 8, b), 20, 7))
	}
	ints("nodes_nodeids", ids)
	ints("nodes_treeids", trees)
	ints("nodes_featureids", features)
	ints("nodes_truenodeids", yes)
	ints("nodes_falsenodeids", no)
	node = sub(node, 5, number(sub(sub(nil, 1, []byte("nodes_values")), 7, values), 20, 6))
	node = sub(node, 5, append(number(sub(nil, 1, []byte("nodes_modes")), 20, 8), modes...))
	ints("target_nodeids", one(nil, 2*depth))
	ints("target_treeids", one(nil, 0))
	ints("target_ids", one(nil, 0))
	node = sub(node, 5, number(sub(sub(nil, 1, []byte("target_weights")), 7, []byte{0, 0, 128, 63}), 20, 6))
	node = sub(node, 5, number(number(sub(nil, 1, []byte("n_targets")), 3, 1), 20, 2))
	graph := sub(nil, 1, node)
	graph = sub(sub(sub(graph, 2, []byte("g")), 11, value("x", 2)), 12, value("y", 1))
	model := sub(number(nil, 1, 8), 7, graph)
	model = sub(model, 8, number(sub(nil, 1, []byte("ai.onnx.ml")), 2, 3))
	return sub(model, 8, number(sub(nil, 1, nil), 2, 17))
}

func appendVarint(b []byte, v int) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func TestATreeThatEndsONNXRuntimeDoesNotEndTheProcess(t *testing.T) {
	o := native(t)
	d := openModel(t, write(t, chain(100)), o)
	out := make([]inference.Tensor, 1)
	if err := d.Infer(t.Context(), row(1), out); err != nil || out[0].F32[0] != 1 {
		t.Fatalf("%v %v", out, err)
	}
	_, err := Open(t.Context(), write(t, chain(200_000)), o)
	if !errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), "ends ONNX Runtime") {
		t.Errorf("%v (%v)", err, errkind.Of(err))
	}
	t.Log(err)
}

func TestDamagedFilesDoNoHarm(t *testing.T) {
	o := native(t)
	o.Instances = 1
	rnd := rand.New(rand.NewPCG(1, 2))
	loaded, tried := 0, 0
	for _, name := range []string{"hist-boosting", "logistic-zipmap", "mlp-classifier"} {
		whole, err := os.ReadFile(testdata(name))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			data := append([]byte(nil), whole...)
			if i%4 == 3 {
				data = data[:rnd.IntN(len(data))]
			} else {
				for range 1 + i%4 {
					data[rnd.IntN(len(data))] ^= 1 << rnd.IntN(8)
				}
			}
			tried++
			d, err := Open(t.Context(), write(t, data), o)
			if err != nil {
				switch errkind.Of(err) {
				case errkind.Invalid, errkind.Unsupported, errkind.Permanent, errkind.Exhausted:
				default:
					t.Errorf("%v: %v", errkind.Of(err), err)
				}
				continue
			}
			loaded++
			meta := d.Metadata()
			_ = d.Infer(t.Context(), random(meta, 10, 1), make([]inference.Tensor, len(meta.Outputs)))
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d of %d damaged files were loaded", loaded, tried)
}

func TestMemoryIsBounded(t *testing.T) {
	o := native(t)
	o.Settings = map[string]any{"memory": "256MiB", "instances": 1}
	d := openModel(t, testdata("mlp-classifier"), o)
	out := make([]inference.Tensor, len(d.Metadata().Outputs))
	if err := d.Infer(t.Context(), random(d.Metadata(), 1000, 1), out); err != nil {
		t.Error(err)
	}
	meta := d.Metadata()
	in := random(meta, 10_000_000, 1)
	if err := d.Infer(t.Context(), in, out); err == nil {
		t.Error("a batch larger than the memory was answered")
	} else {
		t.Log(err)
	}
}
