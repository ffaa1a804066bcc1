package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// kindOf is the kind of an error of the client or the server.
func kindOf(err error) errkind.Kind {
	if k := errkind.Of(err); k != errkind.Unknown {
		return k
	}
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return kindOfCode(ke)
	}
	var firstRead *kgo.ErrFirstReadEOF
	var noName *net.DNSError
	switch {
	case errors.Is(err, kgo.ErrClientClosed):
		return errkind.Closed
	case errors.As(err, &firstRead):
		return errkind.Transient
	case errors.As(err, &noName):
		return errkind.Transient
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown {
		return k
	}
	switch {
	case errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries), errors.Is(err, kgo.ErrAborting), errors.Is(err, kgo.ErrMaxBuffered):
		return errkind.Transient
	}
	return errkind.Transient // the client's own: a broker that it does not know yet, a connection that broke
}

func kindOfCode(e *kerr.Error) errkind.Kind {
	switch e {
	case kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.GroupIDNotFound, kerr.TransactionalIDNotFound:
		return errkind.NotFound
	case kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTopicException, kerr.InvalidPartitions,
		kerr.InvalidReplicationFactor, kerr.InvalidConfig, kerr.PolicyViolation, kerr.InvalidGroupID, kerr.InvalidTimestamp,
		kerr.OffsetMetadataTooLarge, kerr.InvalidSessionTimeout:
		return errkind.Invalid
	case kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState, kerr.TopicAuthorizationFailed,
		kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
		kerr.InvalidTransactionTimeout, kerr.SecurityDisabled:
		return errkind.Config
	case kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.FencedInstanceID,
		kerr.InvalidProducerIDMapping, kerr.FencedMemberEpoch, kerr.StaleMemberEpoch, kerr.TopicAlreadyExists:
		return errkind.Conflict
	case kerr.ThrottlingQuotaExceeded:
		return errkind.Throttled
	case kerr.UnsupportedVersion, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType, kerr.FeatureUpdateFailed:
		return errkind.Unsupported
	case kerr.CorruptMessage:
		return errkind.Transient // on its way; the server keeps checksums
	case kerr.UnknownServerError, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.TransactionAbortable, kerr.BrokerNotAvailable,
		kerr.InvalidTxnState, kerr.ReassignmentInProgress, kerr.NotEnoughReplicasAfterAppend:
		return errkind.Transient
	case kerr.OffsetOutOfRange:
		return errkind.Transient
	}
	if e.Retriable {
		return errkind.Transient
	}
	return errkind.Permanent
}

// failed gives an error of a call its kind, and what was being done.
func (d *Driver) failed(ctx context.Context, err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	switch {
	case d.ctx.Err() != nil:
		return errkind.Errorf(errkind.Closed, "%s: the driver is closed", what)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if at, limited := ctx.Deadline(); limited && !time.Now().Before(at) { // the client may see the deadline a moment before the context does
		return fmt.Errorf("%s: %w", what, context.DeadlineExceeded)
	}
	kind := kindOf(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		// The call's own deadline: not the caller's, of which nothing is known to have passed.
		return errkind.Errorf(kind, "%s: %s did not answer within %v", what, d.s.endpoint, d.s.timeout)
	case kind == errkind.Closed || kind == errkind.Canceled: // of a client that is ours
		kind = errkind.Transient
	}
	return errkind.Errorf(kind, "%s: %w", what, err)
}

// begin is the context of one call: the caller's, with the deadline of one
// call, and ended by Close.
func (d *Driver) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	c, cancel := context.WithTimeout(ctx, d.s.timeout)
	stop := context.AfterFunc(d.ctx, cancel)
	return c, func() { stop(); cancel() }
}

func code(c int16) error { return kerr.ErrorForCode(c) }
