package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lethe.example/client/internal/gen/lethev1"
)

// watchMax is a little more than the time after which the vault ends a watch.
const watchMax = 61 * time.Minute

// within gives up a step of a stream after a while: it ends the whole stream then.
func within[T any](timeout time.Duration, cancel context.CancelFunc, step func() (T, error)) (T, error) {
	var late atomic.Bool
	timer := time.AfterFunc(timeout, func() {
		late.Store(true)
		cancel()
	})
	defer timer.Stop()
	out, err := step()
	if err != nil && late.Load() {
		err = status.Error(codes.DeadlineExceeded, "the vault sent nothing for too long")
	}
	return out, err
}

// breaks counts how often a stream broke since it last got on.
type breaks int

// again waits before a stream is continued; false if it should not be.
func (b *breaks) again(ctx context.Context, err error) bool {
	*b++
	// A stream that stood still too long is ended with DEADLINE_EXCEEDED; it goes on where it stood.
	passing := isPassing(err) || status.Code(err) == codes.DeadlineExceeded
	return ctx.Err() == nil && passing && int(*b) < attemptsMax && wait(ctx, pause(int(*b)))
}

// errBroken takes the place of io.EOF where the vault's part of a stream ended too early.
var errBroken = status.Error(codes.Unavailable, "the stream ended too early")

// taken goes through the parts of an export, over as many streams as it takes. open begins or goes on, take handles a
// part and says whether it was the last that is wanted. atEnd is what it means that a stream ended before that.
func taken[A any](
	ctx context.Context, timeout time.Duration,
	open func(context.Context) (grpc.ServerStreamingClient[A], error), take func(*A) (bool, error), atEnd error,
) error {
	var broke breaks
	for {
		hasMoved, err := takenOnce(ctx, timeout, open, take, atEnd)
		if err == nil {
			return nil
		}
		if hasMoved {
			broke = 0
		}
		if !broke.again(ctx, err) {
			return asError(err)
		}
	}
}

// takenOnce goes through one stream.
func takenOnce[A any](
	ctx context.Context, timeout time.Duration,
	open func(context.Context) (grpc.ServerStreamingClient[A], error), take func(*A) (bool, error), atEnd error,
) (hasMoved bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := within(timeout, cancel, func() (grpc.ServerStreamingClient[A], error) { return open(ctx) })
	if err != nil {
		return false, err
	}
	for {
		part, err := within(timeout, cancel, stream.Recv)
		if errors.Is(err, io.EOF) {
			return hasMoved, atEnd
		}
		if err != nil {
			return hasMoved, err
		}
		isEnough, err := take(part)
		if err != nil || isEnough {
			return hasMoved, err
		}
		hasMoved = true
	}
}

// ExportPages gives the records of a selection part by part, as fast as the caller takes them. A stream that breaks
// is continued by token. To continue in another process, give the last part's NextPageToken as PageToken; it is good
// for an hour, and until the vault restarts. PageSize is the vault's choice.
func (c *Client) ExportPages(ctx context.Context, parent string, of Selection) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		of := of
		open := func(ctx context.Context) (grpc.ServerStreamingClient[lethev1.ExportRecordsResponse], error) {
			return c.records.ExportRecords(ctx, &lethev1.ExportRecordsRequest{
				Parent: parent, Schema: of.Schema, PageToken: of.PageToken, ReadMask: of.mask(), Purpose: of.Purpose,
			})
		}
		take := func(part *lethev1.ExportRecordsResponse) (bool, error) {
			page, err := pageOf(part)
			if err != nil {
				return false, err
			}
			of.PageToken = page.NextPageToken
			return !yield(page, nil) || page.NextPageToken == "", nil
		}
		if err := taken(ctx, c.timeout, open, take, errBroken); err != nil {
			yield(nil, err)
		}
	}
}

// Export gives all records of a selection, by name, each once. Records that do not open are left out, and the last
// error is then ErrDamaged.
func (c *Client) Export(ctx context.Context, parent string, of Selection) iter.Seq2[*Record, error] {
	return recordsIn(c.ExportPages(ctx, parent, of))
}

// ChangeKind says what happened to a record.
type ChangeKind string

// The kinds of changes.
const (
	ChangeCreated      ChangeKind = "CREATED"
	ChangeUpdated      ChangeKind = "UPDATED"
	ChangeErased       ChangeKind = "ERASED"
	ChangeBucketErased ChangeKind = "BUCKET_ERASED"
)

// Event is one change of a tenant: a name and a kind, no values.
type Event struct {
	Kind ChangeKind
	// Name is of the record or subject; empty for a bucket.
	Name   string
	Schema string
	// ExpireDate is the bucket's.
	ExpireDate string
	Time       time.Time
}

// Watch hears what changes in a tenant, from when it was made.
type Watch struct {
	stream grpc.ServerStreamingClient[lethev1.WatchRecordsResponse]
	cancel context.CancelFunc
}

// Watch begins to watch a tenant. When it returns, each later change is heard. Close it.
func (c *Client) Watch(ctx context.Context, parent string) (*Watch, error) {
	ctx, cancel := context.WithTimeout(ctx, watchMax)
	stream, err := within(c.timeout, cancel, func() (grpc.ServerStreamingClient[lethev1.WatchRecordsResponse], error) {
		stream, err := c.records.WatchRecords(ctx, &lethev1.WatchRecordsRequest{Parent: parent})
		if err != nil {
			return nil, err
		}
		// The first message has no change: it says that the watch has begun.
		_, err = stream.Recv()
		return stream, err
	})
	if errors.Is(err, io.EOF) {
		err = errBroken
	}
	if err != nil {
		cancel()
		return nil, asError(err)
	}
	return &Watch{stream, cancel}, nil
}

// Events gives the changes as they come. It ends without an error after an hour, when the vault ends the watch, and
// after Close. However it ends, changes may be missed until another watch has begun: list what there is then.
func (w *Watch) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			wire, err := w.stream.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Event{}, asError(err))
				return
			}
			event := Event{
				Kind:       ChangeKind(enumName(wire.GetKind().String(), "CHANGE_KIND_")),
				Name:       wire.GetName(),
				Schema:     wire.GetSchema(),
				ExpireDate: wire.GetExpireDate(),
				Time:       timeOf(wire.GetTime()),
			}
			if !yield(event, nil) {
				return
			}
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() {
	w.cancel()
}
