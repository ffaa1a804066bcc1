package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// Bucket is a state.Objects.
type Bucket struct {
	client    *minio.Client
	transport *http.Transport
	bucket    string
	prefix    string
	idle      time.Duration
	closed    atomic.Bool
}

// Open returns the objects under an URL s3://BUCKET/PREFIX?endpoint=…&region=….
// It writes one object twice, to see that the store refuses the second: a store
// that does not is Unsupported, because two owners of a checkpoint could destroy it.
func Open(ctx context.Context, rawURL string, o Options) (*Bucket, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Idle <= 0 {
		o.Idle = 30 * time.Second
	}
	t, err := parse(rawURL, &o)
	if err != nil {
		return nil, err
	}
	client, err := minio.New(t.endpoint.Host, &t.options)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open object store %s: %w", t.endpoint.Host, err)
	}
	b := &Bucket{client: client, transport: t.options.Transport.(*http.Transport), bucket: t.bucket, prefix: t.prefix, idle: o.Idle}
	if err := b.probe(ctx); err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("open bucket %s at %s: %w", t.bucket, t.endpoint.Host, err)
	}
	return b, nil
}

func (b *Bucket) probe(ctx context.Context) error {
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	name := "probe-" + hex.EncodeToString(id[:])
	if err := b.Create(ctx, name, []byte("freshet\n")); err != nil {
		return err
	}
	err := b.Create(ctx, name, []byte("freshet again\n"))
	derr := b.Delete(ctx, name)
	switch {
	case err == nil:
		return errkind.New(errkind.Unsupported, "the store ignores If-None-Match: two processes could overwrite each other's checkpoints; use a store with conditional writes")
	case errkind.Is(err, errkind.Conflict):
		return derr
	}
	return err
}

// deadline is a context that ends when nothing has moved for a while.
type deadline struct {
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer
	idle   time.Duration
	late   atomic.Bool
}

func (b *Bucket) deadline(ctx context.Context) *deadline {
	d := &deadline{idle: b.idle}
	d.ctx, d.cancel = context.WithCancel(ctx)
	d.timer = time.AfterFunc(b.idle, func() {
		d.late.Store(true)
		d.cancel()
	})
	return d
}

func (d *deadline) moved() { d.timer.Reset(d.idle) }

func (d *deadline) end() {
	d.timer.Stop()
	d.cancel()
}

// fail gives err its kind.
func (d *deadline) fail(parent context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case parent.Err() != nil:
		return parent.Err()
	case d.late.Load():
		return errkind.Errorf(errkind.Transient, "the object store was silent for %v", d.idle)
	}
	return kinded(err)
}

func kinded(err error) error {
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		if errkind.Of(err) != errkind.Unknown {
			return err
		}
		return errkind.With(errkind.Transient, err) // the network
	}
	kind := errkind.Permanent
	switch code := r.StatusCode; {
	case r.Code == "NoSuchBucket":
		return errkind.Errorf(errkind.Config, "the bucket %s does not exist: create it, or name another", r.BucketName)
	case r.Code == "PreconditionFailed" || code == http.StatusPreconditionFailed:
		kind = errkind.Conflict
	case r.Code == "NoSuchKey" || code == http.StatusNotFound:
		kind = errkind.NotFound
	case r.Code == "SlowDown" || code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		kind = errkind.Throttled
	case code == http.StatusConflict || code == http.StatusRequestTimeout || r.Code == "RequestTimeout" || r.Code == "RequestTimeTooSkewed" && code >= 500:
		kind = errkind.Transient // conditional writes that meet; the next attempt tells who won
	case code == http.StatusInsufficientStorage || r.Code == "QuotaExceeded" || r.Code == "XMinioStorageFull":
		kind = errkind.Exhausted
	case code >= 500 || code == 0:
		kind = errkind.Transient
	case code == http.StatusForbidden || code == http.StatusUnauthorized:
		return errkind.Errorf(errkind.Config, "the object store refuses: %s: check the credentials, their rights on the bucket, and the clock", r.Code)
	}
	return errkind.Errorf(kind, "object store: %s (%s, status %d)", r.Message, r.Code, r.StatusCode)
}

func (b *Bucket) alive(ctx context.Context) error {
	if b.closed.Load() {
		return errkind.Errorf(errkind.Closed, "the bucket %s is closed", b.bucket)
	}
	return ctx.Err()
}

// Put is in state.Objects: one request, so that an object is there whole or not at
// all. S3 itself takes 5 GiB this way.
func (b *Bucket) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	return b.put(ctx, name, size, r, minio.PutObjectOptions{})
}

// Create is in state.Objects.
func (b *Bucket) Create(ctx context.Context, name string, data []byte) error {
	var o minio.PutObjectOptions
	o.SetMatchETagExcept("*")
	return b.put(ctx, name, int64(len(data)), bytes.NewReader(data), o)
}

func (b *Bucket) put(ctx context.Context, name string, size int64, r io.Reader, o minio.PutObjectOptions) error {
	if err := b.alive(ctx); err != nil {
		return err
	}
	if err := state.CheckName(name); err != nil {
		return err
	}
	o.DisableMultipart = true
	o.ContentType = "application/octet-stream"
	d := b.deadline(ctx)
	defer d.end()
	src := &source{d: d, r: r, left: size}
	_, err := b.client.PutObject(d.ctx, b.bucket, b.prefix+name, src, size, o)
	if serr := src.fault(); serr != nil && ctx.Err() == nil {
		return serr
	}
	return d.fail(ctx, err)
}

// source is what a Put reads: it keeps the deadline off while bytes move, and
// remembers its own faults, which are not the network's.
type source struct {
	d    *deadline
	mu   sync.Mutex // the transport may read on while Put returns
	r    io.Reader
	left int64
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.d.ctx.Err(); err != nil {
		return 0, err
	}
	s.d.moved()
	if s.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.r.Read(p)
	s.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && s.left > 0:
		s.err = errkind.Errorf(errkind.Invalid, "the object's reader ended %d bytes before its size", s.left)
		err = io.ErrUnexpectedEOF
	case err != nil && !errors.Is(err, io.EOF):
		s.err = err
	}
	return n, err
}

// fault waits for reads in progress and returns what went wrong with the reader.
func (s *source) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Get is in state.Objects.
func (b *Bucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := b.alive(ctx); err != nil {
		return nil, err
	}
	if err := state.CheckName(name); err != nil {
		return nil, err
	}
	d := b.deadline(ctx)
	core := minio.Core{Client: b.client}
	body, info, _, err := core.GetObject(d.ctx, b.bucket, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		err = d.fail(ctx, err)
		d.end()
		return nil, err
	}
	return &reader{parent: ctx, d: d, body: body, left: info.Size}, nil
}

// reader reads a body to exactly its length.
type reader struct {
	parent context.Context
	d      *deadline
	body   io.ReadCloser
	left   int64
}

func (r *reader) Read(p []byte) (int, error) {
	r.d.moved()
	n, err := r.body.Read(p)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && r.left == 0 {
		return n, io.EOF
	}
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errkind.New(errkind.Transient, "the object store ended an object early")
		}
		return n, r.d.fail(r.parent, err)
	}
	return n, nil
}

func (r *reader) Close() error {
	r.d.end()
	return r.body.Close()
}

// List is in state.Objects.
func (b *Bucket) List(ctx context.Context, prefix string) ([]state.Object, error) {
	if err := b.alive(ctx); err != nil {
		return nil, err
	}
	d := b.deadline(ctx)
	defer d.end()
	var all []state.Object
	for o := range b.client.ListObjectsIter(d.ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, d.fail(ctx, o.Err)
		}
		d.moved()
		name := strings.TrimPrefix(o.Key, b.prefix)
		if state.CheckName(name) == nil {
			all = append(all, state.Object{Name: name, Size: o.Size})
		}
	}
	if err := d.fail(ctx, d.ctx.Err()); err != nil {
		return nil, err
	}
	return all, nil
}

// Delete is in state.Objects.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := b.alive(ctx); err != nil {
		return err
	}
	if err := state.CheckName(name); err != nil {
		return err
	}
	d := b.deadline(ctx)
	defer d.end()
	err := d.fail(ctx, b.client.RemoveObject(d.ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}))
	if errkind.Is(err, errkind.NotFound) {
		return nil
	}
	return err
}

// Close is in state.Objects.
func (b *Bucket) Close() error {
	if !b.closed.Swap(true) {
		b.transport.CloseIdleConnections()
	}
	return nil
}
