package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"lethe.example/client/internal/gen/lethev1"
)

// Fields are a record's values by the names of their fields.
//
// A value that is read is a string (TEXT, EMAIL, PHONE, RESIDENT_ID, USCC, POSTAL_CODE, and DATE as `2026-01-31`, see
// [Fields.Date]), an int64, a float64, a bool or a []byte. A value that is written may also be an int or a [Date].
// No printed form of Fields, JSON included, holds a value: only the fields' names.
type Fields map[string]any

// Date is a calendar day.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// ParseDate reads `2026-01-31`.
func ParseDate(text string) (Date, error) {
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		// The library's error repeats the text.
		return Date{}, fmt.Errorf("not a date such as 2026-01-31")
	}
	return Date{at.Year(), at.Month(), at.Day()}, nil
}

// String gives `2026-01-31`.
func (d Date) String() string {
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day)
}

// Date returns a DATE field's day, and false where there is none.
func (f Fields) Date(name string) (Date, bool) {
	text, isText := f[name].(string)
	if !isText {
		return Date{}, false
	}
	date, err := ParseDate(text)
	return date, err == nil
}

// Names returns the fields' names in order.
func (f Fields) Names() []string {
	return slices.Sorted(maps.Keys(f))
}

// Format prints the fields' names, whatever the verb.
func (f Fields) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "Fields%v", f.Names())
}

// MarshalJSON gives the fields' names, since loggers write JSON too. Convert to map[string]any to store the values.
func (f Fields) MarshalJSON() ([]byte, error) {
	return json.Marshal(f.Names())
}

var _ fmt.Formatter = Fields{}

// toWire checks each value and finds its kind.
func (f Fields) toWire(prefix string) (map[string]*lethev1.Value, error) {
	out := make(map[string]*lethev1.Value, len(f))
	var faults []Violation
	for _, name := range f.Names() {
		value, fault := toWire(f[name])
		if fault != "" {
			faults = append(faults, Violation{prefix + name, fault})
		}
		out[name] = value
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	return out, nil
}

func toWire(value any) (wire *lethev1.Value, fault string) {
	switch value := value.(type) {
	case string:
		if !utf8.ValidString(value) {
			return nil, "is not UTF-8 text"
		}
		return &lethev1.Value{Kind: &lethev1.Value_StringValue{StringValue: value}}, ""
	case Date:
		return &lethev1.Value{Kind: &lethev1.Value_StringValue{StringValue: value.String()}}, ""
	case int:
		return &lethev1.Value{Kind: &lethev1.Value_IntegerValue{IntegerValue: int64(value)}}, ""
	case int64:
		return &lethev1.Value{Kind: &lethev1.Value_IntegerValue{IntegerValue: value}}, ""
	case float64:
		return &lethev1.Value{Kind: &lethev1.Value_NumberValue{NumberValue: value}}, ""
	case bool:
		return &lethev1.Value{Kind: &lethev1.Value_BoolValue{BoolValue: value}}, ""
	case []byte:
		return &lethev1.Value{Kind: &lethev1.Value_BytesValue{BytesValue: value}}, ""
	}
	return nil, "is not a string, Date, int, int64, float64, bool or []byte"
}

func fromWire(fields map[string]*lethev1.Value) (Fields, error) {
	out := make(Fields, len(fields))
	for name, value := range fields {
		switch kind := value.GetKind().(type) {
		case *lethev1.Value_StringValue:
			out[name] = kind.StringValue
		case *lethev1.Value_IntegerValue:
			out[name] = kind.IntegerValue
		case *lethev1.Value_NumberValue:
			out[name] = kind.NumberValue
		case *lethev1.Value_BoolValue:
			out[name] = kind.BoolValue
		case *lethev1.Value_BytesValue:
			out[name] = kind.BytesValue
		default:
			return nil, broken("has a value of no known kind")
		}
	}
	return out, nil
}
