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
	// url makes the broker's URL from the server's address.
	url func(address string) string
	// advertise makes the argument by which the server tells its clients another
	// address than its own, of a proxy; nil where clients keep to the address they have.
	advertise func(address string) string
	// version prints the server's version, where its script does not say it.
	version []string
}

// brokers are all of them, in the order of the page.
func brokers() []brokerSpec {
	plain := func(scheme string) func(string) string {
		return func(address string) string { return scheme + "://" + address }
	}
	const user = "freshet:" + servers.Password + "@"
	return []brokerSpec{
		{name: "journal"},
		{name: "kafka", script: "kafka", url: plain("kafka"), advertise: func(a string) string { return "advertise=" + a }},
		{name: "jetstream", script: "nats", url: plain("nats"), version: []string{"go", "list", "-m", "-f", "{{.Version}}", "github.com/nats-io/nats-server/v2"}},
		{
			name: "redis", script: "redis", args: []string{"aof"}, version: []string{"redis-server", "--version"},
			url: func(a string) string { return "redis://:" + servers.Password + "@" + a },
		},
		{name: "pulsar", script: "pulsar", url: plain("pulsar"), advertise: func(a string) string { return "advertise=" + a }},
		{
			name: "rabbitmq", script: "rabbitmq", advertise: func(a string) string { return "advertise=" + a },
			url: func(a string) string { return "rabbitmq+stream://" + user + a }, version: []string{"dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"},
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
	if s.advertise != nil {
		args = append(args[:len(args):len(args)], s.advertise(p.proxy.Address))
	}
	if p.server, err = servers.Launch(s.script, args...); err != nil {
		p.proxy.Close()
		return nil, err
	}
	address, _, _ := strings.Cut(p.server.Address, ",")
	p.proxy.SetTarget(address)
	p.url, p.direct = s.url(p.proxy.Address), s.url(address)
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
