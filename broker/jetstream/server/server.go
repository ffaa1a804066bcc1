// Package server runs a NATS server inside the process: NATS with JetStream, and,
// where they are asked for, MQTT 3.1.1 and leaf nodes. It listens on the loopback
// interface unless told otherwise, and beyond it only for users that it can tell
// apart.
//
// What it acknowledges it has handed to the operating system: it survives the end
// of the process. A power cut takes what was acknowledged since the last sync, by
// default up to two minutes; with SyncAlways nothing.
package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/freshet-io/freshet/errkind"
)

const (
	// DefaultAddress is where a server listens that is not told where.
	DefaultAddress = "127.0.0.1:4222"
	// startTime bounds the recovery of what is stored and the opening of ports.
	startTime = 2 * time.Minute
	// pulse is how often Start looks whether the server is ready.
	pulse = 100 * time.Millisecond
)

// Options says what to serve.
type Options struct {
	// Dir is the folder of the streams. It is made where it is missing.
	Dir string
	// Address is where NATS clients connect, host:port; DefaultAddress where it is
	// empty. Port 0 is any free one.
	Address string
	// MQTT and LeafNodes are further addresses, host:port with a port above 0; none
	// where they are empty.
	MQTT, LeafNodes string
	// Users may connect; everybody may where there are none, no NKeys and no
	// Token, which is refused beyond the loopback interface.
	Users []User
	// NKeys are public keys of users (U…) who may connect. MQTT clients have none.
	NKeys []string
	// Token, where it is not empty, lets whoever knows it connect.
	Token string
	// TLS is how to encrypt all connections; nil leaves them plain. With its
	// ClientAuth clients have to show certificates.
	TLS *tls.Config
	// SyncAlways makes each acknowledgement wait until the disk has the message.
	SyncAlways bool
	// Logger hears what the server says; nil is silent.
	Logger *slog.Logger
}

// User is somebody who may connect.
type User struct{ Name, Password string }

// Server is a running server.
type Server struct {
	s    *server.Server
	tls  bool
	once sync.Once
}

// Start starts a server and returns when clients can connect. Its errors are
// Config for what the options ask for and Exhausted where an address is taken.
func Start(o Options) (*Server, error) {
	c, err := o.settings()
	if err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	s, err := server.NewServer(c)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "start NATS server: %w", err)
	}
	log := &journal{log: o.Logger}
	if log.log == nil {
		log.log = slog.New(slog.DiscardHandler)
	}
	log.fatal = make(chan string, 1)
	s.SetLoggerV2(log, false, false, false)
	go s.Start() // returns when everything listens
	out := &Server{s: s, tls: o.TLS != nil}
	for deadline := time.Now().Add(startTime); ; {
		if s.ReadyForConnections(pulse) {
			return out, nil
		}
		select {
		case why := <-log.fatal:
			_ = out.Close()
			return nil, errkind.Errorf(errkind.Exhausted, "start NATS server: %s", why)
		default:
		}
		if time.Now().After(deadline) {
			_ = out.Close()
			return nil, errkind.Errorf(errkind.Transient, "start NATS server: not ready within %v", startTime)
		}
	}
}

// URL is where clients connect, without a user.
func (s *Server) URL() string {
	scheme := "nats://"
	if s.tls {
		scheme = "nats+tls://"
	}
	return scheme + strings.TrimPrefix(strings.TrimPrefix(s.s.ClientURL(), "nats://"), "tls://")
}

// Close takes no more from clients, writes what is pending and ends the server. A
// second Close does nothing.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.s.Shutdown()
		s.s.WaitForShutdown()
	})
	return nil
}

// settings checks o and says it in the server's words.
func (o *Options) settings() (*server.Options, error) {
	if o.Dir == "" {
		return nil, errkind.New(errkind.Config, "no folder for the streams is named")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, errkind.Errorf(errkind.Config, "make the folder of the streams: %w", err)
	}
	c := &server.Options{
		ServerName: "freshet", JetStream: true, StoreDir: o.Dir, SyncAlways: o.SyncAlways,
		NoSigs: true, Authorization: o.Token, DisableJetStreamBanner: true,
	}
	var err error
	if c.Host, c.Port, err = o.place("address", o.Address, DefaultAddress); err != nil {
		return nil, err
	}
	if c.MQTT.Host, c.MQTT.Port, err = o.place("MQTT address", o.MQTT, ""); err != nil {
		return nil, err
	}
	if c.LeafNode.Host, c.LeafNode.Port, err = o.place("leaf nodes' address", o.LeafNodes, ""); err != nil {
		return nil, err
	}
	for _, u := range o.Users {
		if u.Name == "" || u.Password == "" {
			return nil, errkind.New(errkind.Config, "a user needs a name and a password")
		}
		c.Users = append(c.Users, &server.User{Username: u.Name, Password: u.Password})
	}
	for _, k := range o.NKeys {
		if !nkeys.IsValidPublicUserKey(k) {
			return nil, errkind.New(errkind.Config, "an NKey is not the public key of a user (U…)")
		}
		c.Nkeys = append(c.Nkeys, &server.NkeyUser{Nkey: k})
	}
	if o.Token != "" && len(c.Users)+len(c.Nkeys) > 0 {
		return nil, errkind.New(errkind.Config, "a token excludes users and NKeys")
	}
	if o.TLS != nil {
		c.TLS, c.TLSConfig = true, o.TLS.Clone()
		c.TLSVerify = o.TLS.ClientAuth >= tls.RequireAndVerifyClientCert
		c.MQTT.TLSConfig, c.LeafNode.TLSConfig = o.TLS.Clone(), o.TLS.Clone()
	}
	return c, nil
}

// place reads an address.
func (o *Options) place(what, address, absent string) (host string, port int, err error) {
	if address == "" {
		if address = absent; address == "" {
			return "", 0, nil
		}
	}
	host, number, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(number)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, errkind.Errorf(errkind.Config, "%s %q: expected host:port", what, address)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	if host != "localhost" && (ip == nil || !ip.IsLoopback()) && len(o.Users)+len(o.NKeys) == 0 && o.Token == "" && !o.certified() {
		return "", 0, errkind.Errorf(errkind.Config, "%s %q is open to others: name users, NKeys or a token, or demand certificates", what, address)
	}
	if port == 0 {
		if absent == "" {
			return "", 0, errkind.Errorf(errkind.Config, "%s %q: the port has to be named", what, address)
		}
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// certified says whether clients have to show certificates.
func (o *Options) certified() bool {
	return o.TLS != nil && o.TLS.ClientAuth >= tls.RequireAndVerifyClientCert
}

// journal passes on what the server says.
type journal struct {
	log   *slog.Logger
	fatal chan string
}

var _ server.Logger = (*journal)(nil)

func (j *journal) Noticef(format string, v ...any) { j.log.Info(fmt.Sprintf(format, v...)) }
func (j *journal) Warnf(format string, v ...any)   { j.log.Warn(fmt.Sprintf(format, v...)) }
func (j *journal) Errorf(format string, v ...any)  { j.log.Error(fmt.Sprintf(format, v...)) }
func (j *journal) Debugf(format string, v ...any)  { j.log.Debug(fmt.Sprintf(format, v...)) }
func (j *journal) Tracef(format string, v ...any)  { j.log.Debug(fmt.Sprintf(format, v...)) }

// Fatalf is said of what keeps the server from starting.
func (j *journal) Fatalf(format string, v ...any) {
	why := fmt.Sprintf(format, v...)
	j.log.Error(why)
	select {
	case j.fatal <- why:
	default:
	}
}
