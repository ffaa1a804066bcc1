package main

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strings"

	"github.com/freshet-io/freshet/test/servers"
)

// brokerSpec is a broker that pipelines run on.
type brokerSpec struct {
	name string
	// script starts its server, with args; "" for the journal.
	script string
	args   []string
	// url makes the broker's URL from an address of the server.
	url func(address string, s *servers.Server) string
	// advertises: the server tells its clients where to go, so it must know of the proxy.
	advertises bool
	// version prints the server's version, where its script does not say it.
	version []string
}

// brokers are all of them, in the order of the page.
func brokers() []brokerSpec {
	plain := func(scheme string) func(string, *servers.Server) string {
		return func(address string, _ *servers.Server) string { return scheme + "://" + address }
	}
	// Where the script fixes the version, it is there to read.
	pinned := func(script string) []string {
		return []string{"sed", "-n", "s/^version=//p", "test/servers/" + script + ".sh"}
	}
	const user = "freshet:" + servers.Password + "@"
	return []brokerSpec{
		{name: "journal"},
		{name: "kafka", script: "kafka", args: []string{"one"}, url: plain("kafka"), advertises: true, version: pinned("kafka")},
		{name: "jetstream", script: "nats", url: plain("nats"), version: []string{"go", "list", "-m", "-f", "{{.Version}}", "github.com/nats-io/nats-server/v2"}},
		{
			name: "redis", script: "redis", args: []string{"aof"}, version: []string{"redis-server", "--version"},
			url: func(a string, _ *servers.Server) string { return "redis://:" + servers.Password + "@" + a },
		},
		{
			name: "pulsar", script: "pulsar", args: []string{"plain"}, advertises: true, version: pinned("pulsar"),
			url: func(a string, s *servers.Server) string { return "pulsar://" + a + "?admin=http://" + s.Word("admin") },
		},
		{
			name: "rabbitmq", script: "rabbitmq", advertises: true,
			url: func(a string, _ *servers.Server) string { return "rabbitmq-stream://" + user + a }, version: []string{"dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"},
		},
		{
			name: "postgres", script: "postgres", version: []string{"psql", "--version"},
			url: func(a string, _ *servers.Server) string { return "postgres://" + user + a + "/freshet" },
		},
	}
}

// place is a broker that runs, for all its cells.
type place struct {
	spec   brokerSpec
	server *servers.Server // nil for the journal
	proxy  *servers.Proxy  // the way of the workers to the server; nil for the journal
	// url is the workers', direct the sender's and reader's.
	url, direct string
	version     string
}

// open starts the broker's server, with a proxy before it.
func (s brokerSpec) open(ctx context.Context) (_ *place, err error) {
	p := &place{spec: s}
	if s.script == "" {
		p.version = "part of Freshet"
		return p, nil
	}
	if p.proxy, err = servers.NewProxy(""); err != nil {
		return nil, err
	}
	args := s.args
	if s.advertises {
		args = append(args[:len(args):len(args)], "advertise="+p.proxy.Address)
	}
	if p.server, err = servers.Launch(s.script, args...); err != nil {
		p.proxy.Close()
		return nil, err
	}
	address, _, _ := strings.Cut(p.server.Address, ",")
	target := p.server.Word("proxied")
	if target == "" {
		target = address
	}
	p.proxy.SetTarget(target)
	p.url, p.direct = s.url(p.proxy.Address, p.server), s.url(address, p.server)
	p.version = p.server.Word("version")
	if p.version == "" {
		p.version = s.askVersion(ctx)
	}
	return p, nil
}

var versionPattern = regexp.MustCompile(`\d+\.\d+(\.\d+)*`)

func (s brokerSpec) askVersion(ctx context.Context) string {
	if len(s.version) == 0 {
		return ""
	}
	out, err := exec.CommandContext(ctx, s.version[0], s.version[1:]...).Output() //nolint:gosec // from the list above
	if err != nil {
		return ""
	}
	return versionPattern.FindString(string(out))
}

func (p *place) close() error {
	if p.server == nil {
		return nil
	}
	p.proxy.Close()
	if err := p.server.Close(); err != nil {
		return errors.Join(errors.New("end server"), err)
	}
	return nil
}
