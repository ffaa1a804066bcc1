package jetstream

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// failed gives an error of the client or server its kind.
func (d *Driver) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-d.done:
		return d.closedError()
	default:
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return errkind.Errorf(kindOf(err), "%s at %s: %w", what, d.where, err)
}

func (d *Driver) closedError() error {
	return errkind.Errorf(errkind.Closed, "%s: the driver is closed", d.where)
}

func (d *Driver) lostError(what string) error {
	return errkind.Errorf(errkind.Transient, "%s at %s: the connection was lost", what, d.where)
}

// Codes of JetStream's errors that the client has no name for.
const (
	codeResources      = 10002
	codeConsumerLimit  = 10026
	codeNoPeers        = 10005
	codeInsufficient   = 10023
	codeStreamLimit    = 10027
	codeMemory         = 10028
	codeStorage        = 10047
	codeSubjectOverlap = 10065
	codeReplicas       = 10074
	codeStoreFailed    = 10077
	codeHeaderTooLarge = 10097
	codeStreamBytes    = 10122
	codeBatchPartial   = 10176
	codeBatchUnknown   = 10208
)

func kindOf(err error) errkind.Kind {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return kindOfCode(api)
	}
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, nats.ErrPermissionViolation),
		errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted),
		errors.Is(err, nats.ErrNkeysNotSupported), errors.Is(err, nats.ErrNoInfoReceived),
		errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return errkind.Config
	case errors.Is(err, nats.ErrMaxPayload):
		return errkind.Invalid
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrReconnectBufExceeded),
		errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrStaleConnection),
		errors.Is(err, context.DeadlineExceeded):
		return errkind.Transient
	}
	if k := errkind.Of(err); k != errkind.Unknown {
		return k
	}
	// A server that wants a certificate hangs up after the handshake; others refuse
	// us in words of their own, or are no NATS servers.
	text := strings.ToLower(err.Error())
	for _, sign := range []string{"after tls handshake", "authorization", "expected 'info'", "parse"} {
		if strings.Contains(text, sign) {
			return errkind.Config
		}
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown {
		return k
	}
	return errkind.Transient
}

func kindOfCode(e *jetstream.APIError) errkind.Kind {
	switch e.ErrorCode {
	case jetstream.JSErrCodeStreamNotFound, jetstream.JSErrCodeConsumerNotFound:
		return errkind.NotFound
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant, jetstream.JSErrCodeStreamNameInUse, codeSubjectOverlap:
		return errkind.Conflict
	case jetstream.JSErrCodeJetStreamNotEnabled, jetstream.JSErrCodeJetStreamNotEnabledForAccount:
		return errkind.Config
	case jetstream.JSErrCodeStreamMessageExceedsMaximum, codeHeaderTooLarge:
		return errkind.Invalid
	case codeResources, codeInsufficient, codeStreamLimit, codeMemory, codeStorage, codeStoreFailed, codeStreamBytes:
		return errkind.Exhausted
	case codeNoPeers, codeBatchPartial, codeBatchUnknown:
		return errkind.Transient
	case codeConsumerLimit: // those that nobody asks go by themselves
		return errkind.Throttled
	}
	switch {
	case e.Code == 429:
		return errkind.Throttled
	case e.Code >= 500:
		return errkind.Transient
	}
	return errkind.Permanent
}
