package mqtt

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options are what the program gives beside the URL.
type Options struct {
	// Logger hears of lost connections; nil means slog.Default().
	Logger *slog.Logger
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.Default()
	}
	return o.Logger
}

// settings are what a URL says.
type settings struct {
	where              string // for errors
	hosts              []string
	tls                *tls.Config
	user, password     string
	clientID           string
	timeout, keepAlive time.Duration

	filter     string // to receive
	expiry     uint32 // seconds
	key        keyRule
	topic      string // to send
	structured bool
}

// keyRule is where the key of a received record comes from.
type keyRule int

const (
	keyProperty keyRule = 0 // partitionkey, or else the topic
	keyTopic    keyRule = -1
	keyNone     keyRule = -2
	// Above 0 it is the number of a level of the topic.
)

const (
	maxClientID   = 23 // what every broker has to take, of these characters
	maxExpiry     = 0xffffffff
	defaultExpiry = 7 * 24 * time.Hour
	leastAlive    = time.Second
)

func parse(url string, env func(string) (string, bool), receive bool) (*settings, error) {
	e, err := endpoint.Parse(url, env, "mqtts")
	if err != nil {
		return nil, err
	}
	s := &settings{where: e.String(), tls: e.TLS(), user: e.User, password: e.Password}
	bad := func(format string, args ...any) (*settings, error) {
		return nil, errkind.Errorf(errkind.Config, "%s: "+format, append([]any{e}, args...)...)
	}
	if e.Scheme != "mqtt" && e.Scheme != "mqtts" {
		return bad("expected mqtt:// or mqtts://")
	}
	if len(e.Hosts) == 0 {
		return bad("the URL names no host")
	}
	port := "1883"
	if s.tls != nil {
		port = "8883"
	}
	for _, h := range e.Hosts {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		s.hosts = append(s.hosts, h)
	}
	if s.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return nil, err
	}
	if s.keepAlive, err = e.Duration("keepalive", 30*time.Second); err != nil {
		return nil, err
	}
	if s.keepAlive = s.keepAlive.Truncate(time.Second); s.keepAlive < leastAlive || s.keepAlive > 65535*time.Second {
		return bad("option keepalive: expected 1s to 65535s")
	}
	if q := e.Option("qos", "1"); q != "1" {
		return bad("option qos=%s: only 1 is offered, at which nothing is lost", q)
	}
	if receive {
		err = s.parseReceiver(e)
	} else {
		err = s.parseSender(e)
	}
	if err != nil {
		return nil, err
	}
	return s, e.Done()
}

func (s *settings) parseReceiver(e *endpoint.Endpoint) error {
	bad := func(format string, args ...any) error {
		return errkind.Errorf(errkind.Config, "%s: "+format, append([]any{e}, args...)...)
	}
	if e.Path == "" {
		return bad("the URL has no topic filter behind the host, such as /sensors/%%23")
	}
	if err := checkFilter(e.Path); err != nil {
		return errkind.Errorf(errkind.Config, "%s: %w", e, err)
	}
	share := e.Option("share", "")
	if strings.ContainsAny(share, "/+#") {
		return bad("option share=%s: a group's name holds no /, + or #", share)
	}
	s.filter = e.Path
	if share != "" {
		s.filter = "$share/" + share + "/" + e.Path
	}
	expiry, err := e.Duration("expiry", defaultExpiry)
	if err != nil {
		return err
	}
	s.expiry = uint32(min(max(expiry/time.Second, 1), maxExpiry))
	switch key := e.Option("key", ""); key {
	case "":
	case "topic":
		s.key = keyTopic
	case "none":
		s.key = keyNone
	default:
		n, err := strconv.Atoi(key)
		if err != nil || n < 1 {
			return bad("option key=%s: expected topic, none or the number of a level of the topic", key)
		}
		s.key = keyRule(n)
	}
	if s.clientID = e.Option("client_id", ""); s.clientID == "" {
		// The same after a restart, so that the session is found again.
		host, err := os.Hostname()
		if err != nil {
			return bad("give a client_id: the machine's name, of which one is made, is unknown: %w", err)
		}
		sum := sha256.Sum256([]byte(host + "\x00" + s.filter))
		s.clientID = "freshet" + hex.EncodeToString(sum[:])[:maxClientID-len("freshet")]
	}
	return nil
}

func (s *settings) parseSender(e *endpoint.Endpoint) error {
	s.topic = e.Path
	if s.topic == "" {
		s.topic = "{topic}"
	}
	rest := strings.NewReplacer("{key}", "", "{topic}", "").Replace(s.topic)
	if strings.ContainsAny(rest, "+#{}\x00") {
		return errkind.Errorf(errkind.Config, "%s: the topic %q: expected a topic without + and #, in which {key} and {topic} may stand", e, s.topic)
	}
	switch mode := e.Option("mode", "binary"); mode {
	case "binary":
	case "structured":
		s.structured = true
	default:
		return errkind.Errorf(errkind.Config, "%s: option mode=%s: expected binary or structured", e, mode)
	}
	if s.clientID = e.Option("client_id", ""); s.clientID == "" {
		s.clientID = "freshet" + strings.ToLower(rand.Text())[:maxClientID-len("freshet")]
	}
	return nil
}

// checkFilter holds a topic filter to MQTT's rules.
func checkFilter(filter string) error {
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		switch {
		case l == "#" && i == len(levels)-1, l == "+":
		case strings.ContainsAny(l, "+#\x00"):
			return errkind.Errorf(errkind.Config, "the topic filter %q: + stands for a whole level, and # for all at the end", filter)
		}
	}
	return nil
}

// connectPacket asks for a session.
func (s *settings) connectPacket(clean bool, receiveMaximum uint16) *packets.Connect {
	cp := &packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: s.clientID,
		KeepAlive: uint16(s.keepAlive / time.Second), CleanStart: clean, Properties: &packets.Properties{},
	}
	if s.user != "" {
		cp.Username, cp.UsernameFlag = s.user, true
	}
	if s.password != "" {
		cp.Password, cp.PasswordFlag = []byte(s.password), true
	}
	if !clean {
		cp.Properties.SessionExpiryInterval = &s.expiry
		cp.Properties.ReceiveMaximum = &receiveMaximum
	}
	return cp
}
