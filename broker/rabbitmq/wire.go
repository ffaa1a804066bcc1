package rabbitmq

import (
	"encoding/binary"

	"github.com/freshet-io/freshet/errkind"
)

// Commands of the RabbitMQ stream protocol, version 1.
const (
	cmdDeclarePublisher = 1
	cmdPublish          = 2
	cmdPublishConfirm   = 3
	cmdPublishError     = 4
	cmdDeletePublisher  = 6
	cmdSubscribe        = 7
	cmdDeliver          = 8
	cmdCredit           = 9
	cmdUnsubscribe      = 12
	cmdCreate           = 13
	cmdDelete           = 14
	cmdMetadata         = 15
	cmdMetadataUpdate   = 16
	cmdPeerProperties   = 17
	cmdSaslHandshake    = 18
	cmdSaslAuthenticate = 19
	cmdTune             = 20
	cmdOpen             = 21
	cmdClose            = 22
	cmdHeartbeat        = 23
	cmdPartitions       = 25

	answer = 0x8000 // set in the command of a response
)

// Response codes.
const (
	codeOK             = 1
	codeNoStream       = 2
	codeStreamExists   = 5
	codeNotAvailable   = 6
	codeNoMechanism    = 7
	codeAuthentication = 8
	codeSasl           = 9
	codeLoopback       = 11
	codeVHost          = 12
	codeUnknownFrame   = 13
	codeFrameTooLarge  = 14
	codeInternal       = 15
	codeRefused        = 16
	codePrecondition   = 17
)

// errNotAvailable says that a stream has no leader, or not yet after a start.
var errNotAvailable = errkind.New(errkind.Transient, "the stream is not available at the moment")

// codeError is what a response code says.
func codeError(code uint16) error {
	switch code {
	case codeOK:
		return nil
	case codeNoStream:
		return errkind.New(errkind.NotFound, "the stream does not exist")
	case codeStreamExists:
		return errkind.New(errkind.Conflict, "the stream exists already")
	case codeNotAvailable:
		return errNotAvailable
	case codeNoMechanism:
		return errkind.New(errkind.Config, "the server does not offer this way to log in")
	case codeAuthentication, codeSasl:
		return errkind.New(errkind.Config, "the server refuses user and password")
	case codeLoopback:
		return errkind.New(errkind.Config, "the server lets this user in from its own machine only")
	case codeVHost:
		return errkind.New(errkind.Config, "the virtual host does not exist, or the user may not use it")
	case codeRefused:
		return errkind.New(errkind.Config, "the user has no permission for this")
	case codeFrameTooLarge:
		return errkind.New(errkind.Invalid, "the frame is too large for the server")
	case codePrecondition:
		return errkind.New(errkind.Invalid, "the server refuses these arguments")
	case codeUnknownFrame:
		return errkind.New(errkind.Unsupported, "the server does not know this command")
	case codeInternal:
		return errkind.New(errkind.Transient, "the server had an internal error")
	}
	return errkind.Errorf(errkind.Transient, "the server answers with code %d", code)
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendStrings(b []byte, pairs []string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(pairs)/2))
	for _, s := range pairs {
		b = appendString(b, s)
	}
	return b
}

// input reads the fields of a frame; after the first that is not there it is bad.
type input struct {
	b   []byte
	bad bool
}

func (in *input) take(n int) []byte {
	if in.bad || n < 0 || n > len(in.b) {
		in.bad = true
		return nil
	}
	v := in.b[:n:n]
	in.b = in.b[n:]
	return v
}

func (in *input) uint8() uint8 {
	if v := in.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (in *input) uint16() uint16 {
	if v := in.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (in *input) uint32() uint32 {
	if v := in.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (in *input) uint64() uint64 {
	if v := in.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (in *input) string() string {
	n := in.uint16()
	if n == 0xffff { // null
		return ""
	}
	return string(in.take(int(n)))
}
