package client

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestNoPrintedFormOfARecordHoldsAValue(t *testing.T) {
	fields := Fields{"email": "canary", "photo": []byte("canary"), "visits": 271828, "born": Date{1815, 12, 10}}
	record := &Record{Name: "tenants/t/records/r", Fields: fields}
	change := Change{Name: "tenants/t/records/r", Fields: fields}
	var log strings.Builder
	for _, logger := range []*slog.Logger{
		slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil)),
	} {
		logger.Info("x", "record", record, "fields", fields, "new", NewRecord{Fields: fields}, "change", change)
	}
	printed := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, one := range []any{record, *record, fields, NewRecord{Fields: fields}, change, &Page{Records: []*Record{record}}} {
			printed = append(printed, fmt.Sprintf(verb, one))
		}
	}
	for _, one := range []any{record, fields, NewRecord{Fields: fields}, change} {
		text, err := json.Marshal(one)
		check(t, err)
		printed = append(printed, string(text))
	}
	for _, text := range printed {
		for _, value := range []string{"canary", fmt.Sprintf("%x", "canary"), "271828", "1815"} {
			if strings.Contains(text, value) {
				t.Errorf("%s is in %s", value, text)
			}
		}
	}
	if text := fmt.Sprint(record); !strings.Contains(text, "email") || !strings.Contains(text, record.Name) {
		t.Errorf("it says nothing: %s", text)
	}
}

func TestValuesGoAndComeInTheirOwnTypes(t *testing.T) {
	in := Fields{
		"a": "text", "b": int64(math.MinInt64), "c": 1.5, "d": true, "e": []byte{0, 255}, "f": Date{2026, time.January, 31},
		"g": 7,
	}
	wire, err := in.toWire("")
	check(t, err)
	out, err := fromWire(wire)
	check(t, err)
	want := Fields{
		"a": "text", "b": int64(math.MinInt64), "c": 1.5, "d": true, "e": []byte{0, 255}, "f": "2026-01-31", "g": int64(7),
	}
	if !reflect.DeepEqual(map[string]any(out), map[string]any(want)) {
		t.Fatal("they are not the same")
	}
	if day, ok := out.Date("f"); !ok || day != (Date{2026, time.January, 31}) {
		t.Error(day, ok)
	}
	if _, ok := out.Date("a"); ok {
		t.Error("text is no date")
	}
}

func TestAValueOfAForeignTypeIsNamedAndNotRepeated(t *testing.T) {
	_, err := Fields{"a": "\xff", "b": struct{ X string }{"canary"}, "c": nil}.toWire("record.fields.")
	own, _ := err.(*Error)
	if own == nil || len(own.Violations) != 3 || own.Violations[1].Field != "record.fields.b" {
		t.Fatal(err)
	}
	if strings.Contains(fmt.Sprintf("%#v %v", own, err), "canary") {
		t.Error("the value is repeated")
	}
}
