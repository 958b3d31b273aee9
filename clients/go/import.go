package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"lethe.example/client/internal/gen/lethev1"
)

const (
	// chunkRecordsMax is the vault's bound of a chunk.
	chunkRecordsMax = 500
	// chunkBytesMax leaves room in a message for what surrounds the records.
	chunkBytesMax = 3 << 20
)

// ImportStream is one connection of an import. [Client.Import] is easier and goes on by itself.
type ImportStream struct {
	// NextIndex is where to go on.
	NextIndex uint64

	stream  grpc.BidiStreamingClient[lethev1.ImportRecordsRequest, lethev1.ImportRecordsResponse]
	cancel  context.CancelFunc
	timeout time.Duration
}

// ImportChunk is the vault's answer to one chunk.
type ImportChunk struct {
	// FirstIndex is the position of the chunk's first record in the import.
	FirstIndex uint64
	// NextIndex is the position after the chunk: all before it is on disk or was refused.
	NextIndex uint64
	// Names has one name for each record of the chunk, empty where it was refused.
	Names []string
	// Failures say why records were refused.
	Failures []ImportFailure
}

// ImportFailure says why one record of an import was refused. It never holds a value.
type ImportFailure struct {
	// Index is the record's position in the import.
	Index      uint64
	Code       codes.Code
	Violations []Violation
}

// OpenImport begins an import, or continues that of the same id, within a day. Close it.
func (c *Client) OpenImport(ctx context.Context, parent, importID string) (*ImportStream, error) {
	out, err := c.openImport(ctx, parent, importID)
	return out, asError(err)
}

func (c *Client) openImport(ctx context.Context, parent, importID string) (*ImportStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := within(c.timeout, cancel,
		func() (grpc.BidiStreamingClient[lethev1.ImportRecordsRequest, lethev1.ImportRecordsResponse], error) {
			return c.records.ImportRecords(ctx)
		})
	if err != nil {
		cancel()
		return nil, err
	}
	out := &ImportStream{stream: stream, cancel: cancel, timeout: c.timeout}
	start := &lethev1.ImportStart{Parent: parent, ImportId: importID}
	answer, err := out.exchange(&lethev1.ImportRecordsRequest{
		Message: &lethev1.ImportRecordsRequest_Start{Start: start},
	})
	if err != nil {
		cancel()
		return nil, err
	}
	out.NextIndex = answer.GetNextIndex()
	return out, nil
}

// exchange sends one message and waits for the answer to it.
func (s *ImportStream) exchange(message *lethev1.ImportRecordsRequest) (*lethev1.ImportRecordsResponse, error) {
	if err := checkSize(message); err != nil {
		return nil, err
	}
	answer, err := within(s.timeout, s.cancel, func() (*lethev1.ImportRecordsResponse, error) {
		// A send that fails says only that the stream is over; why, the answer says.
		if err := s.stream.Send(message); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return s.stream.Recv()
	})
	if errors.Is(err, io.EOF) {
		err = errBroken
	}
	return answer, err
}

// Send sends a chunk of 1 to 500 records and returns the vault's answer to it. firstIndex is NextIndex, or that of the
// last chunk, to send the very same chunk again.
func (s *ImportStream) Send(firstIndex uint64, records []NewRecord) (*ImportChunk, error) {
	chunk := &lethev1.ImportChunk{FirstIndex: firstIndex}
	for at, record := range records {
		wire, err := record.toWire(fmt.Sprintf("chunk.records[%d].fields.", at))
		if err != nil {
			return nil, err
		}
		chunk.Records = append(chunk.Records, wire)
	}
	answer, err := s.send(chunk)
	return answer, asError(err)
}

func (s *ImportStream) send(chunk *lethev1.ImportChunk) (*ImportChunk, error) {
	answer, err := s.exchange(&lethev1.ImportRecordsRequest{
		Message: &lethev1.ImportRecordsRequest_Chunk{Chunk: chunk},
	})
	if err != nil {
		return nil, err
	}
	count := len(chunk.GetRecords())
	if len(answer.GetNames()) != count || answer.GetNextIndex() != chunk.GetFirstIndex()+uint64(count) {
		return nil, broken("does not fit the chunk")
	}
	s.NextIndex = answer.GetNextIndex()
	return &ImportChunk{
		FirstIndex: chunk.GetFirstIndex(),
		NextIndex:  answer.GetNextIndex(),
		Names:      answer.GetNames(),
		Failures:   each(answer.GetFailures(), failureOf),
	}, nil
}

// Close ends the connection; the import can be continued by its id.
func (s *ImportStream) Close() {
	s.cancel()
}

func failureOf(wire *lethev1.ImportFailure) ImportFailure {
	return ImportFailure{
		Index: wire.GetIndex(),
		Code:  codes.Code(wire.GetCode()),
		Violations: each(wire.GetViolations(), func(v *lethev1.ImportViolation) Violation {
			return Violation{v.GetField(), v.GetDescription()}
		}),
	}
}

// All turns records into what [Client.Import] takes.
func All(records []NewRecord) iter.Seq2[NewRecord, error] {
	return func(yield func(NewRecord, error) bool) {
		for _, record := range records {
			if !yield(record, nil) {
				return
			}
		}
	}
}

// Import stores a long sequence of records, in chunks, and gives the vault's answer to each. A record that is refused
// does not stop the others. A connection that breaks is made anew and the import goes on where it was.
//
// importID is a random UUIDv4 ([NewRequestID]). Keep it until the import is over: Import with the same id and the same
// records, also in another process, goes on after what is stored, without doubling it. What is skipped then is not
// answered again. An error of the sequence ends the import; what was answered is stored.
func (c *Client) Import(
	ctx context.Context, parent, importID string, records iter.Seq2[NewRecord, error],
) iter.Seq2[*ImportChunk, error] {
	return func(yield func(*ImportChunk, error) bool) {
		next, stop := iter.Pull2(records)
		defer stop()
		run := &importRun{client: c, ctx: ctx, parent: parent, id: importID}
		defer run.close()
		err := run.open()
		chunks := &chunker{next: next}
		if err == nil {
			err = chunks.skip(run.stream.NextIndex)
		}
		for err == nil {
			var chunk *lethev1.ImportChunk
			if chunk, err = chunks.take(); err != nil || chunk == nil {
				break
			}
			var answer *ImportChunk
			if answer, err = run.send(chunk); err == nil && !yield(answer, nil) {
				return
			}
		}
		if own := (sourceError{}); errors.As(err, &own) {
			yield(nil, own.error)
		} else if err != nil {
			yield(nil, asError(err))
		}
	}
}

// sourceError is the caller's own, which is handed back as it came.
type sourceError struct{ error }

// importRun is an import over as many connections as it takes.
type importRun struct {
	client     *Client
	ctx        context.Context
	parent, id string
	stream     *ImportStream
	broke      breaks
}

func (r *importRun) close() {
	if r.stream != nil {
		r.stream.Close()
		r.stream = nil
	}
}

func (r *importRun) open() error {
	for {
		stream, err := r.client.openImport(r.ctx, r.parent, r.id)
		if err == nil {
			r.stream = stream
			return nil
		}
		if !r.broke.again(r.ctx, err) {
			return err
		}
	}
}

// send sends a chunk until it is answered. Whether a chunk without an answer was stored or not, the whole of it is sent
// again: the vault knows its last chunk and does not double it.
func (r *importRun) send(chunk *lethev1.ImportChunk) (*ImportChunk, error) {
	for {
		answer, err := r.stream.send(chunk)
		if err == nil {
			r.broke = 0
			return answer, nil
		}
		r.close()
		if !r.broke.again(r.ctx, err) {
			return nil, err
		}
		if err := r.open(); err != nil {
			return nil, err
		}
		first, after := chunk.GetFirstIndex(), chunk.GetFirstIndex()+uint64(len(chunk.GetRecords()))
		if at := r.stream.NextIndex; at != first && at != after {
			return nil, broken("says that the import is elsewhere: is another program using its id?")
		}
	}
}

// chunker cuts a sequence of records into chunks by number and size.
type chunker struct {
	next  func() (NewRecord, error, bool)
	index uint64
	// held did not fit the chunk before.
	held *lethev1.Record
}

func (k *chunker) skip(count uint64) error {
	for k.index < count {
		_, err, more := k.next()
		if err != nil {
			return sourceError{err}
		}
		if !more {
			return invalid(Violation{"records", "are fewer than the import of this id has stored already"})
		}
		k.index++
	}
	return nil
}

// take returns the next chunk; nil at the end.
func (k *chunker) take() (*lethev1.ImportChunk, error) {
	chunk := &lethev1.ImportChunk{FirstIndex: k.index}
	size := 0
	for len(chunk.Records) < chunkRecordsMax {
		record := k.held
		k.held = nil
		if record == nil {
			given, err, more := k.next()
			if err != nil {
				return nil, sourceError{err}
			}
			if !more {
				break
			}
			if record, err = given.toWire(fmt.Sprintf("records[%d].fields.", k.index)); err != nil {
				return nil, err
			}
		}
		if size += proto.Size(record) + 8; size > chunkBytesMax && len(chunk.Records) > 0 {
			k.held = record
			break
		}
		chunk.Records = append(chunk.Records, record)
		k.index++
	}
	if len(chunk.Records) == 0 {
		return nil, nil
	}
	return chunk, nil
}
