package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// host describes the machine as far as the figures depend on it.
type host struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	// FileSystem is the type of the file system that the sides wrote to.
	FileSystem string `json:"file_system"`
	// SyncMicros is the median time of writing 4 KiB and fsync, in microseconds.
	SyncMicros float64 `json:"sync_us"`
	// Versions are the peers' module versions.
	Versions map[string]string `json:"versions"`
}

func (h *host) line() string {
	var v []string
	for _, m := range peerModules {
		if h.Versions[m] != "" {
			v = append(v, filepath.Base(strings.TrimSuffix(strings.TrimSuffix(m, "/v2"), "/v9"))+" "+h.Versions[m])
		}
	}
	return fmt.Sprintf("%d cores, %s, Linux %s, %s, %s with 4 KiB + fsync in %.0f µs; %s",
		h.Cores, h.Memory, h.Kernel, h.Go, h.FileSystem, h.SyncMicros, strings.Join(v, ", "))
}

var peerModules = []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "github.com/twmb/franz-go", "github.com/redis/go-redis/v9", "github.com/apache/pulsar-client-go", "github.com/rabbitmq/rabbitmq-stream-go-client", "github.com/warpstreamlabs/bento", "onnxruntime", "modernc.org/sqlite", "duckdb", "redis-server", "xgboost", "shap"}

func describeHost(ctx context.Context, dir string) (host, error) {
	h := host{CPU: procField("/proc/cpuinfo", "model name"), Cores: runtime.GOMAXPROCS(0), Go: runtime.Version(), Versions: map[string]string{}}
	h.Memory = procField("/proc/meminfo", "MemTotal")
	if kib, err := strconv.ParseFloat(strings.TrimSuffix(h.Memory, " kB"), 64); err == nil {
		h.Memory = fmt.Sprintf("%.0f GiB", kib/(1<<20))
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err == nil {
		h.Kernel = strings.TrimSpace(string(kernel))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			for _, p := range peerModules {
				if m.Path == p {
					h.Versions[p] = m.Version
				}
			}
		}
	}
	if _, v, ok := strings.Cut(filepath.Base(os.Getenv(ortLibrary)), ".so."); ok && openPeer != nil {
		h.Versions["onnxruntime"] = v
	}
	if p := os.Getenv(duckPython); p != "" {
		h.Versions["duckdb"] = output(ctx, p, "-c", "import duckdb; print('v' + duckdb.__version__)")
	}
	if p := redisProgram(); p != "" {
		_, v, _ := strings.Cut(output(ctx, p, "--version"), "v=")
		v, _, _ = strings.Cut(v, " ")
		h.Versions["redis-server"] = v
	}
	if p := os.Getenv(frameworksPython); p != "" {
		for _, m := range []string{"xgboost", "shap"} {
			h.Versions[m] = output(ctx, p, "-c", "from importlib.metadata import version; print('v' + version('"+m+"'))")
		}
	}
	h.FileSystem = fileSystem(dir)
	h.SyncMicros, err = syncTime(dir)
	return h, err
}

// output is what a program prints, or nothing.
func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func procField(file, name string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func fileSystem(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "unknown file system"
	}
	names := map[int64]string{0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlayfs", 0x01021994: "tmpfs", 0x2fc12fc1: "zfs"}
	if n := names[int64(st.Type)]; n != "" {
		return n
	}
	return fmt.Sprintf("file system %#x", st.Type)
}

// syncTime is the median over 200 appends of 4 KiB, each followed by fsync.
func syncTime(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var v []float64
	block := make([]byte, 4096)
	for range 200 {
		at := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		v = append(v, float64(time.Since(at).Microseconds()))
	}
	return spreadOf(v).Median, nil
}
