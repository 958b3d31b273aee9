package client_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	client "lethe.example/client"
)

// The story of clients/CONFORMANCE.md, step by step.
const (
	delivery = "delivery"
	nobody   = "00000000-0000-4000-8000-000000000000"
	caller   = "spiffe://dev.lethe/"
)

type story struct {
	t                     *testing.T
	ctx                   context.Context
	folder                string
	operator, application *client.Client
	auditor, officer      *client.Client
	parent, kind          string
	second, secondKind    string
	ada                   *client.Record
	adaRequest            client.NewRecord
	adaReceipt            *client.Receipt
	batch                 []*client.Record
	lawAtFirst, lawNow    *client.RetentionPolicy
	kept                  *client.Record
	printed               []string
}

func TestConformance(t *testing.T) {
	folder := devFolder(t)
	s := &story{t: t, ctx: context.Background(), folder: folder}
	s.operator, s.application, s.auditor = s.open("operator"), s.open("application"), s.open("auditor")
	s.officer = s.open("privacy-officer")
	s.parent = "tenants/" + tenantID()
	s.kind = s.parent + "/schemas/customer"
	s.second = "tenants/" + tenantID()
	s.secondKind = s.second + "/schemas/customer"
	for at, step := range []func(){
		s.connect, s.noCertificateNoEntry, s.tenantAndSchema, s.everyKindOfValue, s.twiceIsOnce, s.oneIDOneRequest,
		s.anUnknownField, s.aBadValue, s.batchCreate, s.readMask, s.purpose, s.batchGet, s.update, s.staleEtag,
		s.removeAField, s.duplicate, s.find, s.pages, s.importAll, s.importGoesOn, s.exportAll, s.watch,
		s.eraseWithAReceipt, s.againTheSameReceipt, s.erasedIsGone, s.batchErase, s.eraseASubject, s.deadlines,
		s.bounds, s.updateATenant, s.updateAPartOfASchema, s.masks, s.auditLog, s.signedHead, s.retentionPolicies,
		s.updateAPartOfAPolicy, s.explainAndPreview, s.pauseAndResume, s.statusRunClock, s.deleteAPolicy, s.nothingPrinted,
	} {
		// A later step builds on the earlier ones.
		if !t.Run(fmt.Sprintf("step %02d", at+1), func(t *testing.T) { s.t = t; step() }) {
			return
		}
	}
}

func tenantID() string {
	random := make([]byte, 6)
	_, _ = rand.Read(random)
	return "conf-" + hex.EncodeToString(random)
}

func (s *story) open(role string) *client.Client {
	s.t.Helper()
	out, err := client.Open(filepath.Join(s.folder, "client-"+role+".toml"), client.Options{})
	s.fine(err)
	s.t.Cleanup(func() { out.Close() })
	return out
}

func (s *story) fine(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) holds(holds bool, what string, more ...any) {
	s.t.Helper()
	if !holds {
		s.t.Fatal(append([]any{what}, more...)...)
	}
}

// refused keeps the printed form of the error for the last step.
func (s *story) refused(err, kind error) *client.Error {
	s.t.Helper()
	var own *client.Error
	if !errors.Is(err, kind) || !errors.As(err, &own) {
		s.t.Fatalf("%v instead of %v", err, kind)
	}
	s.printed = append(s.printed, fmt.Sprintf("%v %+v %#v", err, own, own))
	return own
}

func (s *story) violated(err error, field string) {
	s.t.Helper()
	own := s.refused(err, client.ErrInvalidArgument)
	is := func(v client.Violation) bool { return v.Field == field }
	s.holds(slices.ContainsFunc(own.Violations, is), field+" is not named:", own.Violations)
}

func (s *story) hides(secrets ...string) {
	s.t.Helper()
	for _, secret := range secrets {
		s.holds(!strings.Contains(s.printed[len(s.printed)-1], secret), "the value is repeated")
	}
}

func (s *story) customer(fields client.Fields) client.NewRecord {
	return client.NewRecord{Schema: s.kind, Fields: fields}
}

func (s *story) create(fields client.Fields) (*client.Record, error) {
	return s.application.Create(s.ctx, s.parent, s.customer(fields))
}

func (s *story) found(field string, value any) []string {
	s.t.Helper()
	found, err := s.application.Find(s.ctx, s.kind, field, value, client.View{})
	s.fine(err)
	return namesOf(found.Records)
}

func (s *story) listed(of client.Selection) []string {
	s.t.Helper()
	return s.all(s.application.List(s.ctx, s.parent, of))
}

func (s *story) all(records iter.Seq2[*client.Record, error]) (names []string) {
	s.t.Helper()
	for record, err := range records {
		s.fine(err)
		names = append(names, record.Name)
	}
	return names
}

func namesOf(records []*client.Record) []string {
	var out []string
	for _, record := range records {
		out = append(out, record.Name)
	}
	return out
}

func (s *story) get(name string, view client.View) *client.Record {
	s.t.Helper()
	record, err := s.application.Get(s.ctx, name, view)
	s.fine(err)
	return record
}

func (s *story) connect() {
	for _, err := range s.application.Tenants(s.ctx) {
		s.fine(err)
	}
}

func (s *story) noCertificateNoEntry() {
	config, err := client.LoadConfig(filepath.Join(s.folder, "client-application.toml"))
	s.fine(err)
	ca, err := os.ReadFile(config.CA)
	s.fine(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, one := range []credentials.TransportCredentials{
		credentials.NewTLS(&tls.Config{RootCAs: roots}), insecure.NewCredentials(),
	} {
		conn, err := grpc.NewClient(strings.TrimPrefix(config.Endpoint, "https://"), grpc.WithTransportCredentials(one))
		s.fine(err)
		defer conn.Close()
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		defer cancel()
		err = conn.Invoke(ctx, "/lethe.v1.TenantService/ListTenants", &emptypb.Empty{}, &emptypb.Empty{})
		s.holds(status.Code(err) == codes.Unavailable, "it is let in:", err)
	}
}

func customerSchema() client.Schema {
	field := func(name string, kind client.FieldKind) client.Field {
		return client.Field{Name: name, Kind: kind, Classification: client.ClassSensitive}
	}
	email, city, phone := field("email", client.KindEmail), field("city", client.KindText), field("phone", client.KindPhone)
	email.Required, email.Unique, email.Mask = true, true, client.MaskEmail
	city.Indexed, city.MaxBytes = true, 200
	phone.Purposes = []string{delivery}
	return client.Schema{
		RetainFor: "P1Y", EraseOldVersionsSynchronously: true,
		Fields: []client.Field{
			email, city, field("visits", client.KindInteger), field("score", client.KindNumber),
			field("member", client.KindBoolean), field("born", client.KindDate), field("photo", client.KindBytes), phone,
		},
	}
}

func (s *story) tenantAndSchema() {
	id := strings.TrimPrefix(s.parent, "tenants/")
	tenant, err := s.operator.CreateTenant(s.ctx, id, "Conformance")
	s.fine(err)
	s.holds(tenant.Name == s.parent, "another name")
	made, err := s.operator.CreateSchema(s.ctx, s.parent, "customer", customerSchema())
	s.fine(err)
	s.holds(made.Name == s.kind && made.Revision == 1, "another schema")
	read, err := s.operator.Schema(s.ctx, s.kind)
	s.fine(err)
	s.holds(len(read.Fields) == 8 && read.RetainFor == "P1Y" && read.EraseOldVersionsSynchronously, "other fields")
	s.holds(read.Fields[0].Mask == client.MaskEmail && read.Fields[0].Unique && read.Fields[0].Kind == client.KindEmail,
		"another first field")
	_, err = s.operator.CreateTenant(s.ctx, id, "Conformance")
	s.refused(err, client.ErrAlreadyExists)
	_, err = s.application.CreateTenant(s.ctx, tenantID(), "")
	s.refused(err, client.ErrPermissionDenied)
}

func (s *story) everyKindOfValue() {
	s.adaRequest = s.customer(client.Fields{
		"email": "ada@example.org", "city": "London", "visits": int64(3), "score": 1.5, "member": true,
		"born": client.Date{Year: 1815, Month: time.December, Day: 10}, "photo": []byte{0x00, 0xff},
		"phone": "+441234567890",
	})
	s.adaRequest.RequestID = client.NewRequestID()
	ada, err := s.application.Create(s.ctx, s.parent, s.adaRequest)
	s.fine(err)
	s.ada = ada
	year := time.Now().UTC().AddDate(1, 0, 0)
	expires, err := client.ParseDate(ada.ExpireDate)
	s.fine(err)
	day := time.Date(expires.Year, expires.Month, expires.Day, 0, 0, 0, 0, time.UTC)
	s.holds(strings.HasPrefix(ada.Name, s.parent+"/records/") && strings.HasPrefix(ada.Subject, s.parent+"/subjects/") &&
		ada.Etag != "" && day.Sub(year).Abs() < 48*time.Hour && !ada.CreateTime.IsZero(), "it lacks something", ada)
	got := s.get(ada.Name, client.View{Purpose: delivery}).Fields
	born, isDate := got.Date("born")
	s.holds(len(got) == 8 && got["email"] == "ada@example.org" && got["city"] == "London" && got["visits"] == int64(3) &&
		got["score"] == 1.5 && got["member"] == true && isDate && born == client.Date{Year: 1815, Month: 12, Day: 10} &&
		bytes.Equal(got["photo"].([]byte), []byte{0x00, 0xff}) && got["phone"] == "+441234567890", "other values")
}

func (s *story) twiceIsOnce() {
	again, err := s.application.Create(s.ctx, s.parent, s.adaRequest)
	s.fine(err)
	s.holds(again.Name == s.ada.Name, "another record")
	s.holds(len(s.listed(client.Selection{})) == 1, "more than one record")
}

func (s *story) oneIDOneRequest() {
	other := s.customer(client.Fields{"email": "other@example.org"})
	other.RequestID = s.adaRequest.RequestID
	_, err := s.application.Create(s.ctx, s.parent, other)
	s.refused(err, client.ErrRequestIDReused)
	s.holds(len(s.listed(client.Selection{})) == 1, "more than one record")
}

func (s *story) anUnknownField() {
	_, err := s.create(client.Fields{"email": "x@example.org", "shoe": 42})
	s.violated(err, "record.fields.shoe")
	s.hides("x@example.org", "42")
}

func (s *story) aBadValue() {
	_, err := s.create(client.Fields{"email": "canary-at-example"})
	s.violated(err, "record.fields.email")
	s.hides("canary")
}

func (s *story) batchCreate() {
	batch := func(emails ...string) (out []client.NewRecord) {
		for _, email := range emails {
			one := s.customer(client.Fields{"email": email})
			one.RequestID = client.NewRequestID()
			out = append(out, one)
		}
		return out
	}
	_, err := s.application.CreateBatch(s.ctx, s.parent, batch("b1@example.org", "canary-at-example", "b3@example.org"))
	s.violated(err, "requests[1].record.fields.email")
	s.hides("canary")
	_, err = s.application.CreateBatch(s.ctx, s.parent, batch("b1@example.org", "ada@example.org"))
	s.holds(s.refused(err, client.ErrDuplicate).Part == "requests[1]", "no part")
	s.holds(len(s.found("email", "b1@example.org")) == 0, "a part of a batch was stored")
	good := batch("b1@example.org", "b2@example.org", "b3@example.org")
	s.batch, err = s.application.CreateBatch(s.ctx, s.parent, good)
	s.fine(err)
	for at, record := range s.batch {
		s.holds(record.Fields["email"] == fmt.Sprintf("b%d@example.org", at+1), "another order")
	}
	again, err := s.application.CreateBatch(s.ctx, s.parent, good)
	s.fine(err)
	s.holds(len(again) == 3 && slices.Equal(namesOf(again), namesOf(s.batch)), "other records")
}

func (s *story) readMask() {
	got := s.get(s.ada.Name, client.View{Mask: []string{"city", "fields.visits"}})
	s.holds(slices.Equal(got.Fields.Names(), []string{"city", "visits"}), "other fields", got)
	_, err := s.application.Get(s.ctx, s.ada.Name, client.View{Mask: []string{"city", "canary"}})
	s.violated(err, "read_mask.paths[1]")
	s.hides("canary")
}

func (s *story) purpose() {
	for purpose, count := range map[string]int{"": 7, delivery: 8, "marketing": 7} {
		got := s.get(s.ada.Name, client.View{Purpose: purpose})
		_, phone := got.Fields["phone"]
		s.holds(len(got.Fields) == count && phone == (count == 8), "other fields", purpose, got)
	}
}

func (s *story) batchGet() {
	names := []string{s.batch[2].Name, s.ada.Name, s.batch[0].Name}
	got, err := s.application.GetBatch(s.ctx, s.parent, names, client.View{})
	s.fine(err)
	s.holds(slices.Equal(namesOf(got), names), "another order")
	names[1] = s.parent + "/records/" + nobody
	_, err = s.application.GetBatch(s.ctx, s.parent, names, client.View{})
	own := s.refused(err, client.ErrNotFound)
	s.holds(!errors.Is(err, client.ErrErased) && own.Part == "names[1]", "another part")
}

func (s *story) update() {
	new, err := s.application.Update(s.ctx, client.Change{
		Name: s.ada.Name, Etag: s.ada.Etag, Fields: client.Fields{"city": "Paris"},
	})
	s.fine(err)
	s.holds(new.Etag != s.ada.Etag, "the same etag")
	s.holds(slices.Equal(s.found("city", "Paris"), []string{s.ada.Name}), "not found by its new value")
	s.holds(len(s.found("city", "London")) == 0, "found by its old value")
}

func (s *story) staleEtag() {
	_, err := s.application.Update(s.ctx, client.Change{
		Name: s.ada.Name, Etag: s.ada.Etag, Fields: client.Fields{"city": "Rome"},
	})
	s.refused(err, client.ErrStale)
	s.holds(s.get(s.ada.Name, client.View{}).Fields["city"] == "Paris", "it changed")
}

func (s *story) removeAField() {
	_, err := s.application.Update(s.ctx, client.Change{Name: s.ada.Name, Mask: []string{"score"}})
	s.fine(err)
	got := s.get(s.ada.Name, client.View{Purpose: delivery}).Fields
	_, score := got["score"]
	s.holds(len(got) == 7 && !score, "other fields", got)
}

func (s *story) duplicate() {
	_, err := s.create(client.Fields{"email": "ada@example.org"})
	own := s.refused(err, client.ErrDuplicate)
	s.holds(errors.Is(err, client.ErrAlreadyExists) && own.Field == "email" && own.Resource == s.ada.Name, "other details")
}

func (s *story) find() {
	s.holds(slices.Equal(s.found("email", "ada@example.org"), []string{s.ada.Name}), "not found")
	_, err := s.application.Find(s.ctx, s.kind, "visits", 3, client.View{})
	s.violated(err, "field")
}

func (s *story) pages() {
	for n := range 6 {
		_, err := s.create(client.Fields{"email": fmt.Sprintf("o%d@example.org", n), "city": "Oslo"})
		s.fine(err)
	}
	var names []string
	pages := 0
	for of := (client.Selection{Schema: s.kind, PageSize: 3}); ; pages++ {
		page, err := s.application.ListPage(s.ctx, s.parent, of)
		s.fine(err)
		names = append(names, namesOf(page.Records)...)
		if of.PageToken = page.NextPageToken; of.PageToken == "" {
			break
		}
	}
	s.holds(len(names) == 10 && ascending(names) && pages+1 >= 4, "other pages", len(names), pages+1)
	s.holds(slices.Equal(names, s.listed(client.Selection{PageSize: 3})), "the iterator gives something else")
	_, err := s.application.ListPage(s.ctx, s.parent, client.Selection{PageToken: "nonsense"})
	s.violated(err, "page_token")
}

// ascending says that each is once, too.
func ascending(names []string) bool {
	return slices.IsSorted(names) && len(slices.Compact(slices.Clone(names))) == len(names)
}

func (s *story) romans(letter string, from, to int) []client.NewRecord {
	var out []client.NewRecord
	for n := from; n < to; n++ {
		out = append(out, client.NewRecord{Schema: s.secondKind, Fields: client.Fields{
			"email": fmt.Sprintf("%s%d@example.org", letter, n), "city": "Rome",
		}})
	}
	return out
}

func (s *story) importAll() {
	_, err := s.operator.CreateTenant(s.ctx, strings.TrimPrefix(s.second, "tenants/"), "Second")
	s.fine(err)
	_, err = s.operator.CreateSchema(s.ctx, s.second, "customer", customerSchema())
	s.fine(err)
	records := s.romans("i", 0, 1200)
	records[700].Fields["email"] = "canary-at-example"
	var sizes, names []string
	var failures []client.ImportFailure
	for chunk, err := range s.application.Import(s.ctx, s.second, client.NewRequestID(), client.All(records)) {
		s.fine(err)
		sizes = append(sizes, fmt.Sprint(len(chunk.Names)))
		failures = append(failures, chunk.Failures...)
		for at, name := range chunk.Names {
			s.holds((name == "") == (chunk.FirstIndex+uint64(at) == 700), "another one was refused")
			if name != "" {
				names = append(names, name)
			}
		}
	}
	s.holds(strings.Join(sizes, " ") == "500 500 200" && len(names) == 1199 && len(failures) == 1, "another outcome", sizes)
	one := failures[0]
	s.holds(one.Index == 700 && one.Code == codes.InvalidArgument && len(one.Violations) == 1 &&
		one.Violations[0].Field == "fields.email", "another failure", one)
	s.holds(!strings.Contains(fmt.Sprintf("%+v", one), "canary"), "the value is repeated")
}

func (s *story) importGoesOn() {
	id, first := client.NewRequestID(), s.romans("j", 0, 500)
	stream, err := s.application.OpenImport(s.ctx, s.second, id)
	s.fine(err)
	s.holds(stream.NextIndex == 0, "it does not begin at 0")
	before, err := stream.Send(0, first)
	s.fine(err)
	stream.Close()
	stream, err = s.application.OpenImport(s.ctx, s.second, id)
	s.fine(err)
	defer stream.Close()
	s.holds(stream.NextIndex == 500, "it goes on elsewhere")
	again, err := stream.Send(0, first)
	s.fine(err)
	s.holds(slices.Equal(again.Names, before.Names) && len(again.Names) == 500, "other names")
	count := 0
	for chunk, err := range s.application.Import(s.ctx, s.second, id, client.All(s.romans("j", 0, 1000))) {
		s.fine(err)
		s.holds(chunk.FirstIndex == 500 && len(chunk.Failures) == 0, "another chunk")
		count += len(chunk.Names)
	}
	s.holds(count == 500, "another count")
	stream, err = s.application.OpenImport(s.ctx, s.second, id)
	s.fine(err)
	defer stream.Close()
	_, err = stream.Send(5000, first[:1])
	s.violated(err, "chunk.first_index")
	s.holds(len(s.all(s.application.List(s.ctx, s.second, client.Selection{PageSize: 1000}))) == 2199, "another count")
}

func (s *story) exportAll() {
	var names, later []string
	parts, token := 0, ""
	for page, err := range s.application.ExportPages(s.ctx, s.second, client.Selection{Schema: s.secondKind}) {
		s.fine(err)
		names = append(names, namesOf(page.Records)...)
		if parts++; parts == 1 {
			token = page.NextPageToken
		} else {
			later = append(later, namesOf(page.Records)...)
		}
	}
	s.holds(len(names) == 2199 && ascending(names) && parts > 1, "another export", len(names), parts)
	rest := s.all(s.application.Export(s.ctx, s.second, client.Selection{Schema: s.secondKind, PageToken: token}))
	s.holds(slices.Equal(rest, later), "the token gives something else")
	view := client.View{Mask: []string{"city"}, Purpose: delivery}
	for record, err := range s.application.Export(s.ctx, s.parent, client.Selection{View: view}) {
		s.fine(err)
		s.holds(len(record.Fields) == 0 || slices.Equal(record.Fields.Names(), []string{"city"}), "other fields", record)
	}
	phones := 0
	for record, err := range s.application.Export(s.ctx, s.parent, client.Selection{View: client.View{Purpose: delivery}}) {
		s.fine(err)
		if _, has := record.Fields["phone"]; has {
			phones++
		}
	}
	s.holds(phones == 1, "the purpose does not work")
}

func (s *story) watch() {
	watch, err := s.application.Watch(s.ctx, s.parent)
	s.fine(err)
	defer watch.Close()
	made, err := s.create(client.Fields{"email": "w@example.org"})
	s.fine(err)
	_, err = s.application.Update(s.ctx, client.Change{Name: made.Name, Fields: client.Fields{"city": "Wien"}})
	s.fine(err)
	_, err = s.application.Erase(s.ctx, made.Name, client.ReasonSubjectRequest, "")
	s.fine(err)
	expected := []client.ChangeKind{client.ChangeCreated, client.ChangeUpdated, client.ChangeErased}
	timer := time.AfterFunc(30*time.Second, watch.Close)
	defer timer.Stop()
	for event, err := range watch.Events() {
		s.fine(err)
		s.holds(event.Kind == expected[0] && event.Name == made.Name && !event.Time.IsZero(), "another change", event)
		if expected = expected[1:]; len(expected) == 0 {
			break
		}
	}
	s.holds(len(expected) == 0, "changes are missing")
}

func (s *story) publicKey() []byte {
	s.t.Helper()
	status, err := s.operator.Status(s.ctx)
	s.fine(err)
	return status.PublicKey
}

func (s *story) verifies(receipt *client.Receipt, name string) {
	s.t.Helper()
	verified, err := client.VerifyReceipt(receipt, s.publicKey())
	s.fine(err)
	s.holds(receipt.Name == name && verified.Name == name, "another name")
}

func (s *story) eraseWithAReceipt() {
	receipt, err := s.application.Erase(s.ctx, s.ada.Name, client.ReasonSubjectRequest, "")
	s.fine(err)
	s.verifies(receipt, s.ada.Name)
	other, _, err := ed25519.GenerateKey(rand.Reader)
	s.fine(err)
	_, err = client.VerifyReceipt(receipt, other)
	s.holds(err != nil, "another key passes")
	spoilt := *receipt
	spoilt.SignedBytes = spoiltBit(s, receipt.SignedBytes)
	_, err = client.VerifyReceipt(&spoilt, s.publicKey())
	s.holds(err != nil, "a changed bit passes")
	renamed := *receipt
	renamed.Name = s.batch[0].Name
	_, err = client.VerifyReceipt(&renamed, s.publicKey())
	s.holds(err != nil, "another name passes")
	s.adaReceipt = receipt
}

func (s *story) againTheSameReceipt() {
	again, err := s.application.Erase(s.ctx, s.ada.Name, client.ReasonSubjectRequest, "")
	s.fine(err)
	s.holds(bytes.Equal(again.SignedBytes, s.adaReceipt.SignedBytes) && bytes.Equal(again.Signature, s.adaReceipt.Signature),
		"another receipt")
}

func (s *story) erasedIsGone() {
	_, err := s.application.Get(s.ctx, s.ada.Name, client.View{})
	s.refused(err, client.ErrErased)
	_, err = s.application.Update(s.ctx, client.Change{Name: s.ada.Name, Fields: client.Fields{"city": "Rome"}})
	s.refused(err, client.ErrErased)
	_, err = s.application.GetBatch(s.ctx, s.parent, []string{s.batch[0].Name, s.ada.Name}, client.View{})
	s.holds(s.refused(err, client.ErrErased).Part == "names[1]", "no part")
	_, err = s.application.Create(s.ctx, s.parent, s.adaRequest)
	s.refused(err, client.ErrErased)
	s.holds(len(s.found("email", "ada@example.org")) == 0, "it is found")
	new, err := s.create(client.Fields{"email": "ada@example.org"})
	s.fine(err)
	s.holds(new.Name != s.ada.Name, "the same name")
	_, err = s.application.Get(s.ctx, s.parent+"/records/"+nobody, client.View{})
	s.refused(err, client.ErrNotFound)
	s.holds(!errors.Is(err, client.ErrErased), "it never was")
}

func (s *story) batchErase() {
	names := namesOf(s.batch[:2])
	receipts, err := s.application.EraseBatch(s.ctx, s.parent, names, client.ReasonSubjectRequest)
	s.fine(err)
	for at, receipt := range receipts {
		s.verifies(receipt, names[at])
	}
}

func (s *story) eraseASubject() {
	id := client.NewRequestID()
	subject, err := s.application.CreateSubject(s.ctx, s.parent, id)
	s.fine(err)
	again, err := s.application.CreateSubject(s.ctx, s.parent, id)
	s.fine(err)
	s.holds(again.Name == subject.Name, "another subject")
	about := func(email string) (*client.Record, error) {
		one := s.customer(client.Fields{"email": email})
		one.Subject = subject.Name
		return s.application.Create(s.ctx, s.parent, one)
	}
	var names []string
	for _, email := range []string{"s1@example.org", "s2@example.org"} {
		record, err := about(email)
		s.fine(err)
		s.holds(record.Subject == subject.Name, "another subject")
		names = append(names, record.Name)
	}
	receipt, receipts, err := s.application.EraseSubject(s.ctx, subject.Name, client.ReasonSubjectRequest)
	s.fine(err)
	s.verifies(receipt, subject.Name)
	slices.Sort(names)
	slices.SortFunc(receipts, func(a, b *client.Receipt) int { return strings.Compare(a.Name, b.Name) })
	s.holds(len(receipts) == 2, "another number of receipts")
	for at, name := range names {
		s.verifies(receipts[at], name)
		_, err := s.application.Get(s.ctx, name, client.View{})
		s.refused(err, client.ErrErased)
	}
	_, err = s.application.Subject(s.ctx, subject.Name)
	s.refused(err, client.ErrErased)
	_, err = about("s3@example.org")
	s.refused(err, client.ErrErased)
	same, _, err := s.application.EraseSubject(s.ctx, subject.Name, client.ReasonSubjectRequest)
	s.fine(err)
	s.holds(bytes.Equal(same.SignedBytes, receipt.SignedBytes), "another receipt")
	record, err := s.application.Erase(s.ctx, names[0], client.ReasonSubjectRequest, "")
	s.fine(err)
	s.holds(bytes.Equal(record.SignedBytes, receipts[0].SignedBytes), "another receipt of a record")
}

func (s *story) deadlines() {
	config, err := client.LoadConfig(filepath.Join(s.folder, "client-application.toml"))
	s.fine(err)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	s.fine(err)
	defer silent.Close()
	call := func(timeout time.Duration) (error, time.Duration) {
		vault, err := client.New(config, client.Options{})
		s.fine(err)
		defer vault.Close()
		ctx, cancel := context.WithTimeout(s.ctx, timeout)
		defer cancel()
		began := time.Now()
		_, err = vault.Tenant(ctx, s.parent)
		return err, time.Since(began)
	}
	config.Endpoint = "https://" + silent.Addr().String()
	err, took := call(time.Second)
	s.holds(errors.Is(err, client.ErrDeadline) || errors.Is(err, client.ErrUnavailable), "another error", err)
	s.holds(took > 500*time.Millisecond && took < 5*time.Second, "another time", took)
	_, err = client.New(config, client.Options{Timeout: 61 * time.Second})
	s.holds(err != nil, "61 s are accepted")
	silent.Close()
	err, took = call(30 * time.Second)
	s.refused(err, client.ErrUnavailable)
	s.holds(took < 10*time.Second && took > 300*time.Millisecond, "without its retries, or too late", took)
}

func (s *story) bounds() {
	many := make([]client.NewRecord, 501)
	for at := range many {
		many[at] = s.customer(client.Fields{"email": fmt.Sprintf("m%d@example.org", at)})
	}
	_, err := s.application.CreateBatch(s.ctx, s.parent, many)
	s.violated(err, "requests")
	names := make([]string, 1001)
	for at := range names {
		names[at] = fmt.Sprintf("%s/records/00000000-0000-4000-8000-%012d", s.parent, at)
	}
	_, err = s.application.GetBatch(s.ctx, s.parent, names, client.View{})
	s.violated(err, "names")
	_, err = s.create(client.Fields{"email": "p@example.org", "photo": make([]byte, 5<<20)})
	s.refused(err, client.ErrExhausted)
}

func (s *story) updateATenant() {
	tenant := func() client.Tenant {
		s.t.Helper()
		out, err := s.application.Tenant(s.ctx, s.parent)
		s.fine(err)
		return *out
	}
	first := tenant()
	changed, err := s.operator.UpdateTenant(s.ctx, client.TenantChange{
		Name: s.parent, Etag: first.Etag, DisplayName: "Renamed",
	})
	s.fine(err)
	s.holds(changed.DisplayName == "Renamed" && changed.Etag != first.Etag && changed.CreateTime.Equal(first.CreateTime) &&
		tenant() == *changed, "it did not change", changed)
	_, err = s.operator.UpdateTenant(s.ctx, client.TenantChange{Name: s.parent, Etag: first.Etag, DisplayName: "Other"})
	s.refused(err, client.ErrStale)
	_, err = s.operator.UpdateTenant(s.ctx, client.TenantChange{
		Name: s.parent, DisplayName: "Other", Mask: []string{"display_name", "canary"},
	})
	s.violated(err, "update_mask.paths[1]")
	s.hides("canary")
	_, err = s.application.UpdateTenant(s.ctx, client.TenantChange{Name: s.parent, DisplayName: "Other"})
	s.refused(err, client.ErrPermissionDenied)
	s.holds(tenant() == *changed, "it changed")
	changed, err = s.operator.UpdateTenant(s.ctx, client.TenantChange{Name: s.parent})
	s.fine(err)
	s.holds(changed.DisplayName == "", "it has a name")
}

func (s *story) updateAPartOfASchema() {
	before, err := s.operator.Schema(s.ctx, s.kind)
	s.fine(err)
	city := before.Fields[1]
	city.Classification = client.ClassGeneral
	part := client.Schema{Name: s.kind, Fields: []client.Field{city}}
	after, err := s.operator.UpdateSchema(s.ctx, part, "fields.city")
	s.fine(err)
	before.Fields[1], before.Revision, before.UpdateTime = city, 2, after.UpdateTime
	s.holds(reflect.DeepEqual(after, before), "another schema", after)
	_, err = s.operator.UpdateSchema(s.ctx, part, "fields.city", "fields.canary")
	s.violated(err, "update_mask.paths[1]")
	s.hides("canary")
}

func (s *story) masks() {
	vault, err := client.Open(support(s.t, s.folder), client.Options{})
	s.fine(err)
	defer vault.Close()
	made, err := s.create(client.Fields{
		"email": "mask@example.org", "city": "Bern", "visits": 3, "phone": "+441234567890",
	})
	s.fine(err)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if _, err = vault.Tenant(s.ctx, s.parent); err == nil {
			break
		}
		s.holds(errors.Is(err, client.ErrPermissionDenied) && time.Now().Before(end), "support is not let in:", err)
	}
	masked := client.Fields{"email": "m***@example.org", "city": "Bern", "phone": "+441****7890"}
	got, err := vault.Get(s.ctx, made.Name, client.View{Purpose: delivery})
	s.fine(err)
	s.holds(maps.Equal(got.Fields, masked), "other fields", got)
	count := 0
	for record, err := range vault.List(s.ctx, s.parent, client.Selection{View: client.View{Purpose: delivery}}) {
		s.fine(err)
		if record.Name == made.Name {
			s.holds(maps.Equal(record.Fields, masked), "other fields", record)
			count++
		}
	}
	s.holds(count == 1, "it is not listed")
	got, err = vault.Get(s.ctx, made.Name, client.View{Mask: []string{"visits"}})
	s.fine(err)
	s.holds(len(got.Fields) == 0, "other fields", got)
	_, err = vault.Find(s.ctx, s.kind, "email", "mask@example.org", client.View{})
	s.refused(err, client.ErrPermissionDenied)
	_, err = vault.Update(s.ctx, client.Change{Name: made.Name, Fields: client.Fields{"city": "Rome"}})
	s.refused(err, client.ErrPermissionDenied)
	count = 0
	for _, entry := range s.entries(client.AuditQuery{Parent: s.parent, Principal: caller + "support"}) {
		if entry.Method == "GetRecord" && entry.Purpose == delivery {
			s.holds(entry.Role == "support" && slices.Equal(entry.Clear, []client.Classification{client.ClassGeneral}) &&
				slices.Equal(entry.Masked, []client.Classification{client.ClassSensitive}), "another entry", entry)
			count++
		}
	}
	s.holds(count == 1, "the log does not have it")
}

func (s *story) entries(of client.AuditQuery) (out []*client.AuditEntry) {
	s.t.Helper()
	for entry, err := range s.auditor.AuditEntries(s.ctx, of) {
		s.fine(err)
		out = append(out, entry)
	}
	return out
}

func (s *story) auditLog() {
	made, err := s.create(client.Fields{"email": "log@example.org"})
	s.fine(err)
	s.get(made.Name, client.View{Purpose: delivery})
	about := s.entries(client.AuditQuery{Subject: made.Subject})
	s.holds(len(about) == 2 && about[0].Method == "GetRecord" && about[0].Purpose == delivery &&
		about[1].Method == "CreateRecord" && about[1].Purpose == "", "other entries", about)
	for _, e := range about {
		s.holds(e.Kind == client.AuditCall && e.Code == codes.OK && e.Principal == caller+"application" &&
			e.Role == "application" && e.Tenant == s.parent && e.Schema == s.kind && e.Total == 1 && e.Part == 0 &&
			slices.Equal(e.Clear, []client.Classification{client.ClassSensitive}) && len(e.Masked) == 0 &&
			len(e.Members) == 1 && len(e.Members[0].Subject) == 16 && reflect.DeepEqual(e.Members, about[0].Members),
			"another entry", e)
	}
	var entries []*client.AuditEntry
	pages := 0
	for of := (client.AuditQuery{Parent: s.parent, PageSize: 20}); ; {
		page, err := s.auditor.AuditPage(s.ctx, of)
		s.fine(err)
		entries = append(entries, page.Entries...)
		pages++
		if of.PageToken = page.NextPageToken; of.PageToken == "" {
			break
		}
	}
	methods := map[string]bool{}
	for at, e := range entries {
		s.holds(e.Tenant == s.parent && (at == 0 || e.Index < entries[at-1].Index), "another tenant or order", e)
		methods[e.Method] = true
	}
	s.holds(pages >= 3, "few pages", pages)
	for _, method := range []string{
		"CreateTenant", "UpdateTenant", "UpdateSchema", "CreateRecord", "GetRecord", "FindRecords", "EraseRecord",
		"EraseSubject",
	} {
		s.holds(methods[method], "the log lacks", method)
	}
	own := s.entries(client.AuditQuery{Parent: s.parent})[0]
	s.holds(own.Method == "ListAuditEntries" && own.Principal == caller+"auditor" && own.Role == "auditor" &&
		own.Index > entries[0].Index, "its own reads are not told", own)
	operators := s.entries(client.AuditQuery{Parent: s.parent, Principal: caller + "operator"})
	s.holds(len(operators) > 0 && operators[len(operators)-1].Method == "CreateTenant", "the operator's are missing")
	for _, e := range operators {
		s.holds(e.Principal == caller+"operator", "another caller", e)
	}
	_, err = s.auditor.AuditPage(s.ctx, client.AuditQuery{PageToken: "nonsense"})
	s.violated(err, "page_token")
	_, err = s.application.AuditPage(s.ctx, client.AuditQuery{Parent: s.parent})
	s.refused(err, client.ErrPermissionDenied)
	_, _, err = s.application.EraseSubject(s.ctx, made.Subject, client.ReasonSubjectRequest)
	s.fine(err)
	_, err = s.auditor.AuditPage(s.ctx, client.AuditQuery{Subject: made.Subject})
	s.refused(err, client.ErrErased)
	id := made.Name[strings.LastIndex(made.Name, "/")+1:]
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	s.fine(err)
	for _, e := range entries {
		for _, secret := range []string{"example.org", "London", id, string(raw)} {
			s.holds(!strings.Contains(fmt.Sprintf("%+v", *e), secret) && !bytes.Contains(e.Leaf, []byte(secret)),
				"the log holds", secret)
		}
	}
}

func (s *story) signedHead() {
	head, err := s.auditor.AuditHead(s.ctx)
	s.fine(err)
	status, err := s.auditor.Status(s.ctx)
	s.fine(err)
	key := status.PublicKey
	s.fine(client.VerifyAudit(head, s.auditor.ExportAudit(s.ctx, 0), key))
	var entries []*client.AuditEntry
	for entry, err := range s.auditor.ExportAudit(s.ctx, 0) {
		s.fine(err)
		entries = append(entries, entry)
	}
	verify := func(head client.AuditHead, entries []*client.AuditEntry, key []byte) error {
		return client.VerifyAudit(&head, func(yield func(*client.AuditEntry, error) bool) {
			for _, entry := range entries {
				if !yield(entry, nil) {
					return
				}
			}
		}, key)
	}
	s.fine(verify(*head, entries, key))
	other, _, err := ed25519.GenerateKey(rand.Reader)
	s.fine(err)
	s.holds(verify(*head, entries, other) != nil, "another key passes")
	spoilt := *head
	spoilt.SignedBytes = spoiltBit(s, head.SignedBytes)
	s.holds(verify(spoilt, entries, key) != nil, "a changed bit passes")
	s.fine(client.VerifyAuditHead(head, key))
	for claim, spoil := range map[string]func(*client.AuditHead){
		"vault_id":    func(h *client.AuditHead) { h.VaultID = strings.Repeat("0", 32) },
		"size":        func(h *client.AuditHead) { h.Size++ },
		"root":        func(h *client.AuditHead) { h.Root = make([]byte, 32) },
		"generation":  func(h *client.AuditHead) { h.Generation++ },
		"create_time": func(h *client.AuditHead) { h.CreateTime = h.CreateTime.Add(time.Millisecond) },
	} {
		spoilt := *head
		spoil(&spoilt)
		err := client.VerifyAuditHead(&spoilt, key)
		s.holds(err != nil && strings.HasPrefix(err.Error(), claim+":"), "it passes with another", claim)
	}
	first := *entries[0]
	first.Leaf = bytes.Clone(first.Leaf)
	first.Leaf[len(first.Leaf)-1] ^= 1
	s.holds(verify(*head, append([]*client.AuditEntry{&first}, entries[1:]...), key) != nil, "another leaf passes")
	s.holds(verify(*head, entries[1:], key) != nil, "it passes without its first entry")
	s.holds(verify(*head, entries[:head.Size-1], key) != nil, "it passes without its last entry")
	for entry, err := range s.auditor.ExportAudit(s.ctx, head.Size-1) {
		s.fine(err)
		s.holds(entry.Index == head.Size-1 && bytes.Equal(entry.Leaf, entries[head.Size-1].Leaf), "it begins elsewhere")
		break
	}
	for _, err := range s.application.ExportAudit(s.ctx, 0) {
		s.refused(err, client.ErrPermissionDenied)
	}
	_, err = s.application.AuditHead(s.ctx)
	s.refused(err, client.ErrPermissionDenied)
}

func spoiltBit(s *story, of []byte) []byte {
	s.t.Helper()
	out := bytes.Clone(of)
	bit, err := rand.Int(rand.Reader, big.NewInt(int64(8*len(out))))
	s.fine(err)
	out[bit.Int64()/8] ^= 1 << (bit.Int64() % 8)
	return out
}

func (s *story) nothingPrinted() {
	values := regexp.MustCompile("ada@example.org|London|canary")
	forms := append([]string{}, s.printed...)
	for _, one := range []any{s.ada, *s.ada, s.ada.Fields, s.adaRequest, &s.adaRequest} {
		text, err := json.Marshal(one)
		s.fine(err)
		forms = append(forms, fmt.Sprintf("%v %+v %#v %s %s", one, one, one, one, text))
	}
	s.holds(s.ada.Fields["city"] == "London" && len(s.printed) > 15, "there is nothing to hide")
	for _, form := range forms {
		s.holds(!values.MatchString(form), "a value is printed")
	}
}
