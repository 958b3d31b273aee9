package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"lethe.example/client/internal/gen/lethev1"
)

// Record is what the vault keeps about a subject: the fields of one type. No printed form of it holds a value.
type Record struct {
	// Name is `tenants/{tenant}/records/{uuid}`.
	Name string
	// Schema is `tenants/{tenant}/schemas/{type}`.
	Schema string
	// Subject is `tenants/{tenant}/subjects/{uuid}`.
	Subject string
	Fields  Fields
	// Etag marks the version.
	Etag       string
	CreateTime time.Time
	UpdateTime time.Time
	// ExpireDate is the day, UTC, by which it must be gone; empty if open-ended.
	ExpireDate string
}

// String names the record and its fields, without their values.
func (r *Record) String() string {
	return fmt.Sprintf("Record(%s, %v)", r.Name, r.Fields.Names())
}

// NewRecord is a record to create.
type NewRecord struct {
	// Schema is `tenants/{tenant}/schemas/{type}`.
	Schema string
	// Subject is whom it is about; empty means a new subject.
	Subject string
	Fields  Fields
	// RequestID is a random UUIDv4 by which the vault knows a repeated call; the client makes one if it is empty. An
	// import has an id of its own and ignores it.
	RequestID string
}

// Change says how to change a record.
type Change struct {
	// Name is `tenants/{tenant}/records/{uuid}`.
	Name string
	// Etag, if given, must be the current one.
	Etag   string
	Fields Fields
	// Mask says which fields change; a named field that Fields lacks is removed. Empty means the fields of Fields.
	Mask []string
	// RequestID: see NewRecord.
	RequestID string
}

// View says what of records to read, and what for.
type View struct {
	// Mask names the fields to return; empty means all.
	Mask []string
	// Purpose is checked against the fields' purposes.
	Purpose string
}

func (v View) mask() *fieldmaskpb.FieldMask {
	return maskOf(v.Mask)
}

func maskOf(paths []string) *fieldmaskpb.FieldMask {
	if len(paths) == 0 {
		return nil
	}
	return &fieldmaskpb.FieldMask{Paths: paths}
}

// Create creates a record; when it returns without an error, the record is on disk.
func (c *Client) Create(ctx context.Context, parent string, record NewRecord) (*Record, error) {
	wire, err := record.toWire("record.fields.")
	if err != nil {
		return nil, err
	}
	answer, err := call(ctx, c, safely, c.records.CreateRecord, &lethev1.CreateRecordRequest{
		Parent:    parent,
		Record:    wire,
		RequestId: requestIDOr(record.RequestID),
	})
	if err != nil {
		return nil, err
	}
	return recordOf(answer.GetRecord())
}

// CreateBatch creates up to 500 records in one durable step, all or none. The answer is in their order.
func (c *Client) CreateBatch(ctx context.Context, parent string, records []NewRecord) ([]*Record, error) {
	request := &lethev1.BatchCreateRecordsRequest{Parent: parent}
	for at, record := range records {
		wire, err := record.toWire(fmt.Sprintf("requests[%d].record.fields.", at))
		if err != nil {
			return nil, err
		}
		request.Requests = append(request.Requests, &lethev1.CreateRecordRequest{
			Record:    wire,
			RequestId: requestIDOr(record.RequestID),
		})
	}
	answer, err := call(ctx, c, safely, c.records.BatchCreateRecords, request)
	if err != nil {
		return nil, err
	}
	return recordsOf(answer.GetRecords(), len(records))
}

// Get returns a record.
func (c *Client) Get(ctx context.Context, name string, view View) (*Record, error) {
	answer, err := call(ctx, c, safely, c.records.GetRecord,
		&lethev1.GetRecordRequest{Name: name, ReadMask: view.mask(), Purpose: view.Purpose})
	if err != nil {
		return nil, err
	}
	return recordOf(answer.GetRecord())
}

// GetBatch returns up to 1000 records by name, all or none, in the order of the names.
func (c *Client) GetBatch(ctx context.Context, parent string, names []string, view View) ([]*Record, error) {
	answer, err := call(ctx, c, safely, c.records.BatchGetRecords, &lethev1.BatchGetRecordsRequest{
		Parent: parent, Names: names, ReadMask: view.mask(), Purpose: view.Purpose,
	})
	if err != nil {
		return nil, err
	}
	return recordsOf(answer.GetRecords(), len(names))
}

// Update changes fields of a record and returns it as it is now.
func (c *Client) Update(ctx context.Context, change Change) (*Record, error) {
	fields, err := change.Fields.toWire("record.fields.")
	if err != nil {
		return nil, err
	}
	answer, err := call(ctx, c, safely, c.records.UpdateRecord, &lethev1.UpdateRecordRequest{
		Record:     &lethev1.Record{Name: change.Name, Etag: change.Etag, Fields: fields},
		UpdateMask: maskOf(change.Mask),
		RequestId:  requestIDOr(change.RequestID),
	})
	if err != nil {
		return nil, err
	}
	return recordOf(answer.GetRecord())
}

// Found are the records that a search found.
type Found struct {
	Records []*Record
	// Incomplete: records of this type do not open, and may or may not have the value.
	Incomplete bool
}

// Find finds the records of a schema that hold exactly this value in an indexed field; at most 1000.
func (c *Client) Find(ctx context.Context, schema, field string, value any, view View) (*Found, error) {
	wire, fault := toWire(value)
	if fault != "" {
		return nil, invalid(Violation{"value", fault})
	}
	answer, err := call(ctx, c, safely, c.records.FindRecords, &lethev1.FindRecordsRequest{
		Schema: schema, Field: field, Value: wire, ReadMask: view.mask(), Purpose: view.Purpose,
	})
	if err != nil {
		return nil, err
	}
	records, err := recordsOf(answer.GetRecords(), len(answer.GetRecords()))
	if err != nil {
		return nil, err
	}
	return &Found{records, answer.GetIncomplete()}, nil
}

// Selection says which records to list or export.
type Selection struct {
	// Schema is `tenants/{tenant}/schemas/{type}`; empty means all types.
	Schema string
	// PageSize is for lists: at most 1000; 0 means 50.
	PageSize int
	// PageToken continues after an earlier [Page] of the same selection.
	PageToken string
	View
}

// Page is a part of a list or of an export.
type Page struct {
	Records []*Record
	// NextPageToken continues after this page; empty on the last.
	NextPageToken string
	// DamagedNames are records that are there but do not open.
	DamagedNames []string
}

// ListPage returns one page of a list, ordered by name.
func (c *Client) ListPage(ctx context.Context, parent string, of Selection) (*Page, error) {
	if of.PageSize < 0 || of.PageSize > 1000 {
		return nil, invalid(Violation{"page_size", "must be between 0 and 1000"})
	}
	answer, err := call(ctx, c, safely, c.records.ListRecords, &lethev1.ListRecordsRequest{
		Parent: parent, Schema: of.Schema, PageSize: int32(of.PageSize), PageToken: of.PageToken,
		ReadMask: of.mask(), Purpose: of.Purpose,
	})
	if err != nil {
		return nil, err
	}
	return pageOf(answer)
}

// List gives all records of a selection, by name. Records that do not open are left out, and the last error is then
// ErrDamaged.
func (c *Client) List(ctx context.Context, parent string, of Selection) iter.Seq2[*Record, error] {
	return recordsIn(func(yield func(*Page, error) bool) {
		for {
			page, err := c.ListPage(ctx, parent, of)
			if !yield(page, err) || err != nil || page.NextPageToken == "" {
				return
			}
			of.PageToken = page.NextPageToken
		}
	})
}

// Erase erases a record with all its versions. It is sent once; when its outcome is not known, erase again: a
// repetition gets the same receipt. etag, unless empty, must be the current one.
func (c *Client) Erase(ctx context.Context, name string, reason ErasureReason, etag string) (*Receipt, error) {
	answer, err := call(ctx, c, never, c.records.EraseRecord,
		&lethev1.EraseRecordRequest{Name: name, Reason: reason.toWire(), Etag: etag})
	if err != nil {
		return nil, err
	}
	if waits := answer.GetPostponed(); waits != nil {
		return nil, postponed([]*lethev1.PostponedErasure{waits}, nil)
	}
	return receiptOf(answer.GetReceipt()), nil
}

// EraseBatch erases up to 1000 records, all or none, but what legal holds keep (ErrPostponed). The receipts are in the
// order of the names.
func (c *Client) EraseBatch(
	ctx context.Context, parent string, names []string, reason ErasureReason,
) ([]*Receipt, error) {
	answer, err := call(ctx, c, never, c.records.BatchEraseRecords,
		&lethev1.BatchEraseRecordsRequest{Parent: parent, Names: names, Reason: reason.toWire()})
	if err != nil {
		return nil, err
	}
	receipts := each(answer.GetReceipts(), receiptOf)
	if err := postponed(answer.GetPostponed(), receipts); err != nil {
		return nil, err
	}
	if len(receipts) != len(names) {
		return nil, broken("has not one receipt for each name")
	}
	return receipts, nil
}

func (r NewRecord) toWire(prefix string) (*lethev1.Record, error) {
	fields, err := r.Fields.toWire(prefix)
	if err != nil {
		return nil, err
	}
	return &lethev1.Record{Schema: r.Schema, Subject: r.Subject, Fields: fields}, nil
}

func recordOf(wire *lethev1.Record) (*Record, error) {
	if wire == nil {
		return nil, broken("lacks the record")
	}
	fields, err := fromWire(wire.GetFields())
	if err != nil {
		return nil, err
	}
	return &Record{
		Name:       wire.GetName(),
		Schema:     wire.GetSchema(),
		Subject:    wire.GetSubject(),
		Fields:     fields,
		Etag:       wire.GetEtag(),
		CreateTime: timeOf(wire.GetCreateTime()),
		UpdateTime: timeOf(wire.GetUpdateTime()),
		ExpireDate: wire.GetExpireDate(),
	}, nil
}

func recordsOf(wire []*lethev1.Record, count int) ([]*Record, error) {
	if len(wire) != count {
		return nil, broken("has not one record for each that was asked for")
	}
	out := make([]*Record, len(wire))
	for at, one := range wire {
		record, err := recordOf(one)
		if err != nil {
			return nil, err
		}
		out[at] = record
	}
	return out, nil
}

// pageOf reads an answer to a list or a part of an export.
func pageOf(wire interface {
	GetRecords() []*lethev1.Record
	GetNextPageToken() string
	GetDamagedNames() []string
}) (*Page, error) {
	records, err := recordsOf(wire.GetRecords(), len(wire.GetRecords()))
	if err != nil {
		return nil, err
	}
	return &Page{records, wire.GetNextPageToken(), wire.GetDamagedNames()}, nil
}

// damagedNamesMax bounds what an error holds.
const damagedNamesMax = 10

// recordsIn gives the records of all pages, and says in the end if some were left out.
func recordsIn(pages iter.Seq2[*Page, error]) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		var names []string
		count := 0
		for page, err := range pages {
			if err != nil {
				yield(nil, err)
				return
			}
			count += len(page.DamagedNames)
			names = append(names, page.DamagedNames[:min(len(page.DamagedNames), damagedNamesMax-len(names))]...)
			for _, record := range page.Records {
				if !yield(record, nil) {
					return
				}
			}
		}
		if count > 0 {
			yield(nil, damaged(names, count))
		}
	}
}
