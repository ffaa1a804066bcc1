package cluster

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/freshet-io/freshet/errkind"
)

const token = "hunter2"

// kubeconfig writes one with the contexts one and two, of the namespaces first and second.
func kubeconfig(t *testing.T, server string, ca []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	authority := ""
	if ca != nil {
		path := file + ".ca"
		if err := os.WriteFile(path, ca, 0o600); err != nil {
			t.Fatal(err)
		}
		authority = fmt.Sprintf(", certificate-authority: %q", path)
	}
	text := fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: one
clusters: [{name: c, cluster: {server: %q%s}}]
users: [{name: u, user: {token: %s}}]
contexts:
- {name: one, context: {cluster: c, user: u, namespace: first}}
- {name: two, context: {cluster: c, user: u, namespace: second}}
`, server, authority, token)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func connect(url string, env map[string]string) (*Target, error) {
	o := Options{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	t, err := Parse(url, o)
	if err != nil {
		return nil, err
	}
	err = t.Connect(o)
	return t, err
}

func TestTheClusterIsFound(t *testing.T) {
	file := kubeconfig(t, "https://127.0.0.1:1", nil)
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".kube"), 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".kube", "config"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, url, namespace, fault string
		env                         map[string]string
	}{
		{"a file", "x:///w?kubeconfig=" + file, "first", "", nil},
		{"a namespace", "x://mine/w?kubeconfig=" + file, "mine", "", nil},
		{"a context", "x://two@/w?kubeconfig=" + file, "second", "", nil},
		{"a context as an option", "x:///w?context=two&kubeconfig=" + file, "second", "", nil},
		{"a context that is not there", "x://three@/w?kubeconfig=" + file, "", "three", nil},
		{"the environment", "x:///w", "first", "", map[string]string{"KUBECONFIG": "/none" + string(os.PathListSeparator) + file}},
		{"the home folder", "x:///w", "first", "", map[string]string{"HOME": home}},
		{"the environment before the home folder", "x:///w", "", "/none", map[string]string{"HOME": home, "KUBECONFIG": "/none"}},
		{"nothing", "x:///w", "", "", map[string]string{}},
		{"a pod without a service account", "x:///w", "", "service", map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}},
	} {
		got, err := connect(tc.url, tc.env)
		if tc.namespace != "" {
			if err != nil || got.Namespace != tc.namespace {
				t.Errorf("%s: %v, %v", tc.name, got, err)
			}
		} else if !errkind.Is(err, errkind.Config) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestAnswersHaveTheirKinds(t *testing.T) {
	code, reason := 0, ""
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer "+token {
			t.Errorf("asked with the authorization %q", got)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure",
			Code: int32(code), Reason: metav1.StatusReason(reason), Message: "the test says so"})
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	get := func(server string, ca []byte) error {
		target, err := connect("x:///w?timeout=3s&kubeconfig="+kubeconfig(t, server, ca), nil)
		if err != nil {
			return err
		}
		defer target.Close()
		ctx, leave, err := target.Enter(t.Context())
		if err != nil {
			return err
		}
		defer leave()
		_, err = target.Client.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).
			Namespace(target.Namespace).Get(ctx, "w", metav1.GetOptions{})
		return target.Failed(ctx, "read it", err)
	}
	for _, tc := range []struct {
		code   int
		reason string
		want   errkind.Kind
	}{
		{401, "Unauthorized", errkind.Config},
		{403, "Forbidden", errkind.Config},
		{404, "NotFound", errkind.NotFound},
		{409, "Conflict", errkind.Conflict},
		{410, "Gone", errkind.NotFound},
		{422, "Invalid", errkind.Invalid},
		{429, "TooManyRequests", errkind.Throttled},
		{500, "InternalError", errkind.Transient},
		{502, "", errkind.Transient},
		{503, "ServiceUnavailable", errkind.Transient},
		{504, "Timeout", errkind.Transient},
	} {
		code, reason = tc.code, tc.reason
		if err := get(s.URL, ca); !errkind.Is(err, tc.want) || strings.Contains(err.Error(), token) {
			t.Errorf("%d %s: kind %v, want %v: %v", tc.code, tc.reason, errkind.Of(err), tc.want, err)
		}
	}
	if err := get(s.URL, nil); !errkind.Is(err, errkind.Config) {
		t.Errorf("a server that is not trusted: %v: %v", errkind.Of(err), err)
	}
	down := httptest.NewServer(nil)
	down.Close()
	if err := get(down.URL, nil); !errkind.Is(err, errkind.Transient) {
		t.Errorf("a server that is down: %v: %v", errkind.Of(err), err)
	}
}

func TestSettleEndsByItsContextAndByItsCount(t *testing.T) {
	target := &Target{}
	target.Endpoint = must(t).Endpoint
	n := 0
	err := target.Settle(t.Context(), func() error {
		if n++; n < 5 {
			return Late()
		}
		return nil
	})
	if err != nil || n != 5 {
		t.Errorf("after %d times: %v", n, err)
	}
	ctx, leave, err := must(t).Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	start := time.Now()
	if err := target.Settle(ctx, func() error { return Late() }); !errkind.Is(err, errkind.Transient) {
		t.Errorf("writes that always come too late: %v", err)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("gave up after %v", d)
	}
}

func must(t *testing.T) *Target {
	t.Helper()
	target, err := Parse("x://ns/w?timeout=300ms", Options{})
	if err != nil {
		t.Fatal(err)
	}
	return target
}
