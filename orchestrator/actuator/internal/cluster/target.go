package cluster

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Manager is the field manager of every write.
const Manager = "freshet"

// Options are those of the adapters' Open.
type Options struct {
	// Logger hears what nobody waits for; nil discards it.
	Logger *slog.Logger
	// Env looks up the environment; nil is an empty one.
	Env func(string) (string, bool)
	// Client is asked in place of the cluster that the URL names; nil in a program.
	Client dynamic.Interface
	// Transport wraps what HTTP requests go through.
	Transport func(http.RoundTripper) http.RoundTripper
}

// Target is what a URL says, and the client for it.
type Target struct {
	*endpoint.Endpoint
	Namespace string
	Client    dynamic.Interface
	Timeout   time.Duration

	gate   chan struct{} // one call at a time
	closed chan struct{}
	close  sync.Once
	http   *http.Client
}

// Parse reads a URL; the adapter takes its own options then and calls Done and Connect.
func Parse(raw string, o Options) (*Target, error) {
	e, err := endpoint.Parse(raw, o.Env)
	if err != nil {
		return nil, err
	}
	t := &Target{Endpoint: e, gate: make(chan struct{}, 1), closed: make(chan struct{})}
	if len(e.Hosts) > 1 {
		return nil, errkind.Errorf(errkind.Config, "%s: expected one namespace", e)
	}
	if len(e.Hosts) == 1 {
		t.Namespace = e.Hosts[0]
	}
	if e.Password != "" || e.TLS() != nil {
		return nil, errkind.Errorf(errkind.Config, "%s: who asks and how to encrypt is the kubeconfig's to say; a context with a : in its name goes into the option context", e)
	}
	if t.Timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return nil, err
	}
	return t, nil
}

// Connect makes the client. It sends nothing.
func (t *Target) Connect(o Options) error {
	file, name := t.Option("kubeconfig", ""), t.Option("context", t.User)
	if err := t.Done(); err != nil {
		return err
	}
	if o.Client != nil {
		t.Client = o.Client
		if t.Namespace == "" {
			t.Namespace = "default"
		}
		return nil
	}
	c, namespace, err := configure(file, name, o.Env)
	if err != nil {
		return errkind.Errorf(errkind.Config, "open %s: %w", t, err)
	}
	if t.Namespace == "" {
		t.Namespace = namespace
	}
	c.UserAgent = Manager
	c.WarningHandler = rest.NoWarnings{}
	c.QPS, c.Burst = 100, 200 // an order is some six requests, and orders come one at a time
	if o.Transport != nil {
		c.Wrap(o.Transport)
	}
	if t.http, err = rest.HTTPClientFor(c); err != nil {
		return errkind.Errorf(errkind.Config, "open %s: %w", t, err)
	}
	if t.Client, err = dynamic.NewForConfigAndClient(c, t.http); err != nil {
		return errkind.Errorf(errkind.Config, "open %s: %w", t, err)
	}
	return nil
}

// configure finds out how to reach the cluster, and the namespace where none is named.
func configure(file, name string, env func(string) (string, bool)) (*rest.Config, string, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	paths, _ := env("KUBECONFIG")
	if _, inside := env("KUBERNETES_SERVICE_HOST"); inside && file == "" && paths == "" && name == "" {
		c, err := rest.InClusterConfig()
		if err != nil {
			return nil, "", err
		}
		namespace, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
		if err != nil {
			namespace = []byte("default")
		}
		return c, strings.TrimSpace(string(namespace)), nil
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: file}
	switch home, _ := env("HOME"); {
	case file != "":
	case paths != "":
		rules.Precedence = strings.Split(paths, string(os.PathListSeparator))
	case home != "":
		rules.Precedence = []string{home + "/.kube/config"}
	}
	cc := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name})
	c, err := cc.ClientConfig()
	if err != nil {
		return nil, "", err
	}
	namespace, _, err := cc.Namespace()
	return c, namespace, err
}

// Enter begins a call: one at a time, no longer than the timeout. leave ends it.
func (t *Target) Enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, t.wrap(ctx, "call", err)
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	select {
	case t.gate <- struct{}{}:
	case <-ctx.Done():
		defer cancel()
		return nil, nil, t.wrap(ctx, "wait for the call before", ctx.Err())
	}
	leave = func() { <-t.gate; cancel() }
	select {
	case <-t.closed:
		leave()
		return nil, nil, errkind.Errorf(errkind.Closed, "%s: the actuator is closed", t)
	default:
		return ctx, leave, nil
	}
}

// Close waits for the call under way.
func (t *Target) Close() error {
	t.close.Do(func() {
		t.gate <- struct{}{}
		close(t.closed)
		<-t.gate
		if t.http != nil {
			t.http.CloseIdleConnections()
		}
	})
	return nil
}
