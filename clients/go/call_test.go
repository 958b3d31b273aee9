package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"lethe.example/client/internal/gen/adminv1"
	"lethe.example/client/internal/gen/lethev1"
)

func TestOnlyWhatIsSafeIsMadeAgain(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.ResourceExhausted, codes.Internal, codes.Aborted} {
		passing := code == codes.Unavailable || code == codes.ResourceExhausted
		var ids []string
		var gets, erases, tenants int
		vault := &fake{
			create: func(_ context.Context, q *lethev1.CreateRecordRequest) (*lethev1.CreateRecordResponse, error) {
				ids = append(ids, q.GetRequestId())
				if len(ids) < 3 {
					return nil, told(code, "TEST")
				}
				return &lethev1.CreateRecordResponse{Record: &lethev1.Record{Name: "r"}}, nil
			},
			get: func(context.Context, *lethev1.GetRecordRequest) (*lethev1.GetRecordResponse, error) {
				gets++
				return nil, told(code, "TEST")
			},
			erase: func(context.Context, *lethev1.EraseRecordRequest) (*lethev1.EraseRecordResponse, error) {
				erases++
				return nil, told(code, "TEST")
			},
			tenant: func(context.Context, *lethev1.CreateTenantRequest) (*lethev1.CreateTenantResponse, error) {
				tenants++
				return nil, told(code, "TEST")
			},
		}
		client := vault.serve(t, Options{})
		ctx := context.Background()
		_, created := client.Create(ctx, "tenants/t", NewRecord{})
		_, got := client.Get(ctx, "r", View{})
		_, erased := client.Erase(ctx, "r", "", "")
		_, made := client.CreateTenant(ctx, "t", "")
		if got == nil || erased == nil || made == nil || erases != 1 || tenants != 1 {
			t.Errorf("%s: %d erasures, %d tenants", code, erases, tenants)
		}
		if passing && (created != nil || len(ids) != 3 || gets != 4) || !passing && (len(ids) != 1 || gets != 1) {
			t.Errorf("%s: %v; %d creates, %d gets", code, created, len(ids), gets)
		}
		random := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
		if len(slices.Compact(ids)) != 1 || !random.MatchString(ids[0]) {
			t.Errorf("the attempts have not one random id: %v", ids)
		}
	}
}

func TestPausesGrowAndDiffer(t *testing.T) {
	seen := map[time.Duration]bool{}
	for attempt, whole := range []time.Duration{0, 100e6, 200e6, 400e6} {
		for range 20 {
			if attempt == 0 {
				continue
			}
			one := pause(attempt)
			seen[one] = true
			if one < whole/2 || one > whole {
				t.Errorf("attempt %d: %s", attempt, one)
			}
		}
	}
	if len(seen) < 30 {
		t.Error("they are not random")
	}
	if pause(1000) > 10*time.Second {
		t.Error("they are not bounded")
	}
}

func TestEveryCallHasADeadline(t *testing.T) {
	var granted time.Duration
	vault := &fake{get: func(ctx context.Context, _ *lethev1.GetRecordRequest) (*lethev1.GetRecordResponse, error) {
		end, _ := ctx.Deadline()
		granted = time.Until(end)
		return nil, told(codes.NotFound, "NOT_FOUND")
	}}
	client := vault.serve(t, Options{})
	near := func(want time.Duration) bool { return granted <= want && granted > want-5*time.Second }
	_, _ = client.Get(context.Background(), "r", View{})
	if !near(TimeoutDefault) {
		t.Errorf("by default %s", granted)
	}
	long, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	_, _ = client.Get(long, "r", View{})
	if !near(TimeoutMax) {
		t.Errorf("of an hour there is left %s", granted)
	}
	short, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = client.Get(short, "r", View{})
	if !near(10 * time.Second) {
		t.Errorf("of 10 s there is left %s", granted)
	}
	config := newPKI(t).config("127.0.0.1:1")
	for timeout, fine := range map[time.Duration]bool{0: true, TimeoutMax: true, 61 * time.Second: false, -1: false} {
		if _, err := New(config, Options{Timeout: timeout}); fine != (err == nil) {
			t.Errorf("%s: %v", timeout, err)
		}
	}
}

func TestRetriesEndWithTheDeadline(t *testing.T) {
	vault := &fake{get: func(context.Context, *lethev1.GetRecordRequest) (*lethev1.GetRecordResponse, error) {
		return nil, told(codes.Unavailable, "UNAVAILABLE")
	}}
	// Long enough for a handshake on a busy machine.
	client := vault.serve(t, Options{Timeout: time.Second})
	began := time.Now()
	_, err := client.Get(context.Background(), "r", View{})
	if !errors.Is(err, ErrUnavailable) || time.Since(began) > 1250*time.Millisecond {
		t.Error(err, time.Since(began))
	}
	// A pause that would outlast the deadline is not begun.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	began = time.Now()
	if wait(ctx, 2*time.Second) || time.Since(began) > 500*time.Millisecond {
		t.Error("it waits in vain", time.Since(began))
	}
}

func TestEachErrorHasItsType(t *testing.T) {
	all := []error{
		ErrNotFound, ErrErased, ErrInvalidArgument, ErrAlreadyExists, ErrDuplicate, ErrStale, ErrRequestIDReused,
		ErrChangesMissed, ErrAborted, ErrPermissionDenied, ErrUnauthenticated, ErrPrecondition, ErrExhausted,
		ErrUnavailable, ErrDeadline, ErrCanceled, ErrDamaged,
	}
	for _, one := range []struct {
		code   codes.Code
		reason string
		want   []error
	}{
		{codes.NotFound, "NOT_FOUND", []error{ErrNotFound}},
		{codes.NotFound, "ERASED", []error{ErrNotFound, ErrErased}},
		{codes.InvalidArgument, "", []error{ErrInvalidArgument}},
		{codes.AlreadyExists, "EXISTS", []error{ErrAlreadyExists}},
		{codes.AlreadyExists, "DUPLICATE_VALUE", []error{ErrAlreadyExists, ErrDuplicate}},
		{codes.Aborted, "ETAG_MISMATCH", []error{ErrStale, ErrAborted}},
		{codes.Aborted, "REQUEST_ID_REUSED", []error{ErrRequestIDReused, ErrAborted}},
		{codes.Aborted, "CHANGES_MISSED", []error{ErrChangesMissed, ErrAborted}},
		{codes.Aborted, "CONFLICT", []error{ErrAborted}},
		{codes.PermissionDenied, "", []error{ErrPermissionDenied}},
		{codes.Unauthenticated, "", []error{ErrUnauthenticated}},
		{codes.FailedPrecondition, "PRECONDITION", []error{ErrPrecondition}},
		{codes.ResourceExhausted, "LIMIT", []error{ErrExhausted}},
		{codes.Unavailable, "UNAVAILABLE", []error{ErrUnavailable}},
		{codes.DeadlineExceeded, "", []error{ErrDeadline}},
		{codes.Canceled, "", []error{ErrCanceled}},
		{codes.DataLoss, "DAMAGED", []error{ErrDamaged}},
		{codes.Internal, "", nil},
	} {
		err := fmt.Errorf("wrapped: %w", asError(told(one.code, one.reason)))
		for _, kind := range all {
			if errors.Is(err, kind) != slices.Contains(one.want, kind) {
				t.Errorf("%s %s: %v", one.code, one.reason, kind)
			}
		}
	}
}

func TestAnErrorCarriesItsDetails(t *testing.T) {
	err := asError(told(codes.AlreadyExists, "DUPLICATE_VALUE",
		&errdetails.ResourceInfo{ResourceName: "tenants/t/records/r"}, &errdetails.RequestInfo{RequestId: "requests[1]"}))
	own := err.(*Error)
	if own.Field != "email" || own.Resource != "tenants/t/records/r" || own.Part != "requests[1]" {
		t.Errorf("%+v", own)
	}
	bad := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a", Description: "b"}}}
	if own = asError(told(codes.InvalidArgument, "", bad)).(*Error); !slices.Equal(own.Violations, []Violation{{"a", "b"}}) {
		t.Errorf("%+v", own)
	}
	failed := &errdetails.PreconditionFailure{
		Violations: []*errdetails.PreconditionFailure_Violation{{Subject: "s", Description: "d"}},
	}
	if own = asError(told(codes.FailedPrecondition, "", failed)).(*Error); !slices.Equal(own.Violations, []Violation{{"s", "d"}}) {
		t.Errorf("%+v", own)
	}
}

func TestOlderTLSAndForeignServersAreRefused(t *testing.T) {
	answer := func(context.Context, *lethev1.GetRecordRequest) (*lethev1.GetRecordResponse, error) {
		return &lethev1.GetRecordResponse{Record: &lethev1.Record{Name: "r"}}, nil
	}
	keys, foreign := newPKI(t), newPKI(t)
	same := func(c Config) Config { return c }
	for _, one := range []struct {
		what    string
		setting *tls.Config
		change  func(Config) Config
		fine    bool
	}{
		{"TLS 1.3", keys.tls(tls.VersionTLS13), same, true},
		{"TLS 1.2", keys.tls(tls.VersionTLS12), same, false},
		{"a server of another CA", foreign.tls(tls.VersionTLS13), same, false},
		{"its other name", keys.tls(tls.VersionTLS13), func(c Config) Config {
			c.ServerName = "vault.test"
			return c
		}, true},
		{"another name", keys.tls(tls.VersionTLS13), func(c Config) Config {
			c.ServerName = "other.test"
			return c
		}, false},
	} {
		client := (&fake{get: answer}).serveWith(t, Options{Timeout: 3 * time.Second}, keys, one.setting, one.change)
		_, err := client.Get(context.Background(), "r", View{})
		if one.fine != (err == nil) || err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrDeadline) {
			t.Errorf("%s: %v", one.what, err)
		}
	}
}

func TestTooLargeIsRefusedBeforeItIsSent(t *testing.T) {
	calls := 0
	vault := &fake{create: func(context.Context, *lethev1.CreateRecordRequest) (*lethev1.CreateRecordResponse, error) {
		calls++
		return nil, told(codes.Internal, "")
	}}
	_, err := vault.serve(t, Options{}).Create(context.Background(), "tenants/t",
		NewRecord{Fields: Fields{"photo": make([]byte, 5<<20)}})
	if !errors.Is(err, ErrExhausted) || calls != 0 {
		t.Error(err, calls)
	}
}

func records(names ...string) []*lethev1.Record {
	return each(names, func(name string) *lethev1.Record { return &lethev1.Record{Name: name} })
}

func TestAnExportThatBreaksGoesOnByToken(t *testing.T) {
	var tokens []string
	vault := &fake{export: func(
		q *lethev1.ExportRecordsRequest, s grpc.ServerStreamingServer[lethev1.ExportRecordsResponse],
	) error {
		tokens = append(tokens, q.GetPageToken())
		switch len(tokens) {
		case 1:
			return told(codes.ResourceExhausted, "LIMIT")
		case 2:
			_ = s.Send(&lethev1.ExportRecordsResponse{Records: records("a", "b"), NextPageToken: "after-b"})
			return told(codes.Unavailable, "UNAVAILABLE")
		case 3:
			_ = s.Send(&lethev1.ExportRecordsResponse{
				Records: records("c"), DamagedNames: []string{"d"}, NextPageToken: "after-d",
			})
			// Without its last part a stream has not ended, whatever its status says.
			return nil
		}
		return s.Send(&lethev1.ExportRecordsResponse{Records: records("e")})
	}}
	var names []string
	var last error
	for record, err := range vault.serve(t, Options{}).Export(context.Background(), "tenants/t", Selection{}) {
		if last = err; err == nil {
			names = append(names, record.Name)
		}
	}
	if got := strings.Join(names, ""); got != "abce" || !slices.Equal(tokens, []string{"", "", "after-b", "after-d"}) {
		t.Error(got, tokens)
	}
	if !errors.Is(last, ErrDamaged) || !strings.Contains(last.Error(), "d") {
		t.Errorf("the record that does not open is passed over: %v", last)
	}
}

func TestAnAuditExportThatBreaksGoesOnByIndex(t *testing.T) {
	var starts []uint64
	vault := &fake{audit: func(
		q *adminv1.ExportAuditEntriesRequest, s grpc.ServerStreamingServer[adminv1.ExportAuditEntriesResponse],
	) error {
		starts = append(starts, q.GetStartIndex())
		part := func(indexes ...uint64) {
			_ = s.Send(&adminv1.ExportAuditEntriesResponse{Entries: each(indexes, func(at uint64) *adminv1.AuditEntry {
				return &adminv1.AuditEntry{Index: at}
			})})
		}
		if len(starts) == 1 {
			part(5, 6)
			return told(codes.Unavailable, "UNAVAILABLE")
		}
		part(7)
		part(8)
		return nil
	}}
	var indexes []uint64
	for entry, err := range vault.serve(t, Options{}).ExportAudit(context.Background(), 5) {
		check(t, err)
		indexes = append(indexes, entry.Index)
	}
	if !slices.Equal(indexes, []uint64{5, 6, 7, 8}) || !slices.Equal(starts, []uint64{5, 7}) {
		t.Error(indexes, starts)
	}
}

func TestAnExportGivesUpWhenItDoesNotGetOn(t *testing.T) {
	var calls atomic.Int32
	for code, want := range map[codes.Code]int32{codes.Unavailable: 4, codes.InvalidArgument: 1} {
		calls.Store(0)
		vault := &fake{export: func(
			*lethev1.ExportRecordsRequest, grpc.ServerStreamingServer[lethev1.ExportRecordsResponse],
		) error {
			calls.Add(1)
			return told(code, "")
		}}
		for _, err := range vault.serve(t, Options{}).Export(context.Background(), "tenants/t", Selection{}) {
			if err == nil {
				t.Error("there is a record")
			}
		}
		if calls.Load() != want {
			t.Errorf("%s: %d calls", code, calls.Load())
		}
	}
}

func TestASilentStreamEnds(t *testing.T) {
	silent := func(s grpc.ServerStream) error {
		<-s.Context().Done()
		return nil
	}
	vault := &fake{
		watch: func(_ *lethev1.WatchRecordsRequest, s grpc.ServerStreamingServer[lethev1.WatchRecordsResponse]) error {
			return silent(s)
		},
		importing: func(s grpc.BidiStreamingServer[lethev1.ImportRecordsRequest, lethev1.ImportRecordsResponse]) error {
			return silent(s)
		},
	}
	client := vault.serve(t, Options{Timeout: 100 * time.Millisecond})
	if _, err := client.Watch(context.Background(), "tenants/t"); !errors.Is(err, ErrDeadline) {
		t.Error(err)
	}
	if _, err := client.OpenImport(context.Background(), "tenants/t", NewRequestID()); !errors.Is(err, ErrDeadline) {
		t.Error(err)
	}
}

// importer is a vault's side of an import that loses connections and answers as it is told.
type importer struct {
	stored []string
	last   uint64
	chunks []string
	// breaksBefore and breaksAfter name chunks (counted from 1) around whose storing the connection is lost.
	breaksBefore, breaksAfter int
}

func (i *importer) serve(s grpc.BidiStreamingServer[lethev1.ImportRecordsRequest, lethev1.ImportRecordsResponse]) error {
	for {
		message, err := s.Recv()
		if err != nil {
			return err
		}
		if message.GetStart() != nil {
			_ = s.Send(&lethev1.ImportRecordsResponse{NextIndex: uint64(len(i.stored))})
			continue
		}
		chunk := message.GetChunk()
		i.chunks = append(i.chunks, fmt.Sprintf("%d+%d", chunk.GetFirstIndex(), len(chunk.GetRecords())))
		if len(i.chunks) == i.breaksBefore {
			return told(codes.Unavailable, "UNAVAILABLE")
		}
		var names []string
		for _, record := range chunk.GetRecords() {
			names = append(names, record.GetFields()["n"].GetStringValue())
		}
		switch first := chunk.GetFirstIndex(); {
		case first == uint64(len(i.stored)):
			i.last = first
			i.stored = append(i.stored, names...)
		case first != i.last:
			return told(codes.InvalidArgument, "")
		}
		if len(i.chunks) == i.breaksAfter {
			return told(codes.Unavailable, "UNAVAILABLE")
		}
		_ = s.Send(&lethev1.ImportRecordsResponse{NextIndex: chunk.GetFirstIndex() + uint64(len(names)), Names: names})
	}
}

func numbered(count int) []NewRecord {
	out := make([]NewRecord, count)
	for at := range out {
		out[at] = NewRecord{Fields: Fields{"n": fmt.Sprint(at)}}
	}
	return out
}

func TestAnImportThatBreaksGoesOnWithoutGapOrDouble(t *testing.T) {
	for _, one := range []struct {
		vault  importer
		chunks string
	}{
		{importer{}, "0+500 500+500 1000+200"},
		{importer{breaksBefore: 2}, "0+500 500+500 500+500 1000+200"},
		{importer{breaksAfter: 2}, "0+500 500+500 500+500 1000+200"},
		{importer{breaksAfter: 3}, "0+500 500+500 1000+200 1000+200"},
		// Another process stored the first 700.
		{importer{stored: strings.Split(strings.Repeat("x ", 699)+"x", " ")}, "700+500"},
	} {
		vault := one.vault
		before := len(vault.stored)
		client := (&fake{importing: vault.serve}).serve(t, Options{})
		var names []string
		for chunk, err := range client.Import(context.Background(), "tenants/t", NewRequestID(), All(numbered(1200))) {
			check(t, err)
			names = append(names, chunk.Names...)
		}
		if got := strings.Join(vault.chunks, " "); got != one.chunks {
			t.Errorf("%s instead of %s", got, one.chunks)
		}
		if len(vault.stored) != 1200 || !slices.Equal(names, vault.stored[before:]) {
			t.Errorf("%d stored, %d named", len(vault.stored), len(names))
		}
		for at := before; at < 1200; at++ {
			if vault.stored[at] != fmt.Sprint(at) {
				t.Fatalf("%s at %d", vault.stored[at], at)
			}
		}
	}
}

func TestAnImportIsCutByBytesToo(t *testing.T) {
	var vault importer
	client := (&fake{importing: vault.serve}).serve(t, Options{})
	large := numbered(5)
	for at := range large {
		large[at].Fields["photo"] = make([]byte, 1<<20)
	}
	for _, err := range client.Import(context.Background(), "tenants/t", NewRequestID(), All(large)) {
		check(t, err)
	}
	if got := strings.Join(vault.chunks, " "); got != "0+2 2+2 4+1" {
		t.Error(got)
	}
}

func TestAnImportEndsWithItsSourcesError(t *testing.T) {
	var vault importer
	client := (&fake{importing: vault.serve}).serve(t, Options{})
	spoilt := errors.New("spoilt")
	source := func(yield func(NewRecord, error) bool) {
		for at := range 501 {
			if !yield(numbered(at + 1)[at], nil) {
				return
			}
		}
		yield(NewRecord{}, spoilt)
	}
	var last error
	for _, err := range client.Import(context.Background(), "tenants/t", NewRequestID(), source) {
		last = err
	}
	if !errors.Is(last, spoilt) || len(vault.stored) != 500 {
		t.Error(last, len(vault.stored))
	}
}
