// Package aws is what the adapters of Amazon's services share: how a URL and the
// environment say where a service is and who asks, and what its errors mean.
//
//	SERVICE://REGION/NAME?endpoint=http://127.0.0.1:4566&profile=dev
//
// Credentials are those of Amazon's default chain (the environment, the shared
// files, a web identity, a container's or machine's role), of the profile that
// profile= names, or the URL's user and password (an access key and its secret;
// password_env= and password_file= name where the secret is). role= is the ARN
// of a role to take on with them.
package aws

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Target is what a URL says.
type Target struct {
	*endpoint.Endpoint
	Region string
	// Timeout bounds a call.
	Timeout time.Duration

	address, profile, role string
}

// Parse reads the parts of a URL that all services share. The adapter takes its
// own options and calls Done.
func Parse(raw string, env func(string) (string, bool)) (*Target, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	e, err := endpoint.Parse(raw, env)
	if err != nil {
		return nil, err
	}
	if len(e.Hosts) != 1 {
		return nil, errkind.Errorf(errkind.Config, "%s: expected %s://REGION/NAME", e, e.Scheme)
	}
	t := &Target{Endpoint: e, Region: e.Hosts[0]}
	if t.Timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return nil, err
	}
	t.address, t.profile, t.role = e.Option("endpoint", ""), e.Option("profile", ""), e.Option("role", "")
	return t, nil
}

// Config finds the credentials and returns how to call services: without
// repetitions, which are the caller's.
func (t *Target) Config(ctx context.Context) (aws.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	client := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		if c := t.TLS(); c != nil {
			tr.TLSClientConfig = c
		}
		tr.MaxIdleConnsPerHost = 32
	})
	options := []func(*config.LoadOptions) error{
		config.WithRegion(t.Region),
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}), // what it warns of are errors that calls return too
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if t.profile != "" {
		options = append(options, config.WithSharedConfigProfile(t.profile))
	}
	if t.User != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(t.User, t.Password, "")))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, errkind.Errorf(errkind.Config, "open %s: %w", t, err)
	}
	if t.role != "" {
		c.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), t.role))
	}
	if t.address != "" {
		c.BaseEndpoint = aws.String(t.address)
	}
	if _, err := c.Credentials.Retrieve(ctx); err != nil {
		kind := errkind.Config
		if k := KindOf(err); k.Retryable() && ctx.Err() == nil {
			kind = k
		}
		return aws.Config{}, errkind.Errorf(kind, "open %s: no credentials of AWS: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile by profile=, or run where a role is given: %w", t, err)
	}
	return c, nil
}

// Failed gives an error its kind.
func (t *Target) Failed(verb string, err error) error {
	return errkind.Errorf(KindOf(err), "%s %s: %w", verb, t.Endpoint, err)
}

// Closed is the error of a call after Close.
func (t *Target) Closed() error {
	return errkind.Errorf(errkind.Closed, "%s is closed", t.Endpoint)
}

// KindOf is what an error of a call means.
func KindOf(err error) errkind.Kind {
	// What the server said counts before what the network did.
	var api smithy.APIError
	if errors.As(err, &api) {
		if k := KindOfCode(api.ErrorCode()); k != errkind.Unknown {
			return k
		}
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) {
		switch code := answer.HTTPStatusCode(); {
		case code == http.StatusTooManyRequests:
			return errkind.Throttled
		case code >= 500:
			return errkind.Transient
		case code == http.StatusUnauthorized, code == http.StatusForbidden:
			return errkind.Config
		case code >= 400 && api != nil:
			return errkind.Permanent
		}
	}
	if k := errkind.Of(err); k != errkind.Unknown {
		return k
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown {
		return k
	}
	var canceled *aws.RequestCanceledError
	if errors.As(err, &canceled) {
		return errkind.Canceled
	}
	if api == nil && answer != nil {
		return errkind.Transient // an answer cut short, or not one of the service's
	}
	return errkind.Permanent
}

// KindOfCode is what an error code means, of a call or of one entry of a batch;
// Unknown for those that only their own service knows.
func KindOfCode(code string) errkind.Kind {
	if _, ok := retry.DefaultThrottleErrorCodes[code]; ok {
		return errkind.Throttled
	}
	switch code {
	case "OverLimit", "KmsThrottled", "KMSThrottlingException", "KMS.ThrottlingException":
		return errkind.Throttled
	case "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "ResourceNotFoundException", "AWS.SimpleQueueService.QueueDeletedRecently":
		return errkind.NotFound
	case "AccessDenied", "AccessDeniedException", "NotAuthorizedException", "AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId",
		"ExpiredToken", "ExpiredTokenException", "RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken",
		"MissingAuthenticationTokenException", "OptInRequired", "InvalidSecurity", "InvalidAddress",
		"KmsAccessDenied", "KMSAccessDeniedException", "KmsDisabled", "KMSDisabledException", "KmsNotFound", "KMSNotFoundException", "KmsInvalidState", "KMSInvalidStateException",
		"KmsInvalidKeyUsage", "KmsOptInRequired", "KMSOptInRequired":
		return errkind.Config
	case "InternalError", "InternalFailure", "InternalServerError", "InternalException", "InternalFailureException", "ServiceUnavailable", "ServiceUnavailableException",
		"RequestTimeout", "RequestTimeoutException", "ResourceInUseException":
		return errkind.Transient
	}
	return errkind.Unknown
}

// Each runs call for every chunk, up to inFlight at a time, until one fails, and
// returns the first error when all have ended.
func Each[T any](chunks []T, inFlight int, call func(T) error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	slots := make(chan struct{}, inFlight)
	for _, c := range chunks {
		slots <- struct{}{}
		mu.Lock()
		stop := first != nil
		mu.Unlock()
		if stop {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := call(c); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
		})
	}
	wg.Wait()
	return first
}
