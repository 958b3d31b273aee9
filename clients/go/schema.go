package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"lethe.example/client/internal/gen/lethev1"
)

// FieldKind says what a field holds and how it is checked.
type FieldKind string

// The kinds of fields; the vault's protobuf files say how each is checked.
const (
	KindText       FieldKind = "TEXT"
	KindInteger    FieldKind = "INTEGER"
	KindNumber     FieldKind = "NUMBER"
	KindBoolean    FieldKind = "BOOLEAN"
	KindDate       FieldKind = "DATE"
	KindBytes      FieldKind = "BYTES"
	KindEmail      FieldKind = "EMAIL"
	KindPhone      FieldKind = "PHONE"
	KindResidentID FieldKind = "RESIDENT_ID"
	KindUSCC       FieldKind = "USCC"
	KindPostalCode FieldKind = "POSTAL_CODE"
)

// Classification says how sensitive a field is.
type Classification string

// The classes of fields.
const (
	ClassPublic    Classification = "PUBLIC"
	ClassGeneral   Classification = "GENERAL"
	ClassSensitive Classification = "SENSITIVE"
)

// MaskKind says how a value is shown to a reader without the clear right. Empty means the default of the field's kind.
type MaskKind string

// The masks.
const (
	MaskFull    MaskKind = "FULL"
	MaskName    MaskKind = "NAME"
	MaskPhone   MaskKind = "PHONE"
	MaskEmail   MaskKind = "EMAIL"
	MaskID      MaskKind = "ID"
	MaskAddress MaskKind = "ADDRESS"
	MaskCard    MaskKind = "CARD"
)

// Field is one field of a schema.
type Field struct {
	Name           string
	Kind           FieldKind
	Classification Classification
	Required       bool
	// Unique: no two live records of the type may have the same value. Implies Indexed.
	Unique bool
	// Indexed: records can be found by this field's value.
	Indexed bool
	// MaxBytes bounds TEXT and BYTES; 0 means 4096.
	MaxBytes int
	Mask     MaskKind
	// Purposes for which the field may be read; empty means any.
	Purposes    []string
	Description string
}

// Schema is the shape of a record type.
type Schema struct {
	// Name is `tenants/{tenant}/schemas/{type}`. Not needed to create one.
	Name   string
	Fields []Field
	// RetainFor is how long a record is kept, such as `P3Y`; empty means until it is erased by request.
	RetainFor                     string
	EraseOldVersionsSynchronously bool
	// Revision is 1, 2, … Set by the vault.
	Revision int
	// UpdateTime is set by the vault.
	UpdateTime time.Time
}

// CreateSchema creates the schema of a record type. It is sent once: it carries no request id.
func (c *Client) CreateSchema(ctx context.Context, parent, id string, schema Schema) (*Schema, error) {
	wire, err := schema.toWire()
	if err != nil {
		return nil, err
	}
	answer, err := call(ctx, c, never, c.schemas.CreateSchema,
		&lethev1.CreateSchemaRequest{Parent: parent, SchemaId: id, Schema: wire})
	if err != nil {
		return nil, err
	}
	return schemaOf(answer.GetSchema()), nil
}

// UpdateSchema replaces the schema of this name by a compatible newer revision; with a mask only the parts that it
// names, such as `fields.city`. It is sent once.
func (c *Client) UpdateSchema(ctx context.Context, schema Schema, mask ...string) (*Schema, error) {
	wire, err := schema.toWire()
	if err != nil {
		return nil, err
	}
	answer, err := call(ctx, c, never, c.schemas.UpdateSchema,
		&lethev1.UpdateSchemaRequest{Schema: wire, UpdateMask: maskOf(mask)})
	if err != nil {
		return nil, err
	}
	return schemaOf(answer.GetSchema()), nil
}

// Schema returns the current revision of the schema of this name.
func (c *Client) Schema(ctx context.Context, name string) (*Schema, error) {
	answer, err := call(ctx, c, safely, c.schemas.GetSchema, &lethev1.GetSchemaRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return schemaOf(answer.GetSchema()), nil
}

// Schemas gives the schemas of a tenant, by type.
func (c *Client) Schemas(ctx context.Context, parent string) iter.Seq2[*Schema, error] {
	return paged(func(token string) ([]*Schema, string, error) {
		answer, err := call(ctx, c, safely, c.schemas.ListSchemas,
			&lethev1.ListSchemasRequest{Parent: parent, PageToken: token})
		if err != nil {
			return nil, "", err
		}
		return each(answer.GetSchemas(), schemaOf), answer.GetNextPageToken(), nil
	})
}

func (s Schema) toWire() (*lethev1.Schema, error) {
	out := &lethev1.Schema{Name: s.Name, EraseOldVersionsSynchronously: s.EraseOldVersionsSynchronously}
	if s.RetainFor == "" {
		out.Retention = &lethev1.Schema_OpenEnded{OpenEnded: true}
	} else {
		out.Retention = &lethev1.Schema_RetainFor{RetainFor: s.RetainFor}
	}
	var faults []Violation
	for at, field := range s.Fields {
		kind, known := lethev1.FieldKind_value["FIELD_KIND_"+string(field.Kind)]
		if !known {
			faults = append(faults, Violation{fmt.Sprintf("schema.fields[%d].kind", at), "is not a known kind"})
		}
		class, known := lethev1.Classification_value["CLASSIFICATION_"+string(field.Classification)]
		if !known {
			faults = append(faults,
				Violation{fmt.Sprintf("schema.fields[%d].classification", at), "is not a known classification"})
		}
		mask, known := lethev1.MaskKind_value["MASK_KIND_"+string(field.Mask)]
		if !known && field.Mask != "" {
			faults = append(faults, Violation{fmt.Sprintf("schema.fields[%d].mask", at), "is not a known mask"})
		}
		if field.MaxBytes < 0 || field.MaxBytes > 1<<20 {
			faults = append(faults,
				Violation{fmt.Sprintf("schema.fields[%d].max_bytes", at), "must be between 0 and 1048576"})
		}
		out.Fields = append(out.Fields, &lethev1.Field{
			Name:           field.Name,
			Kind:           lethev1.FieldKind(kind),
			Classification: lethev1.Classification(class),
			Required:       field.Required,
			Unique:         field.Unique,
			Indexed:        field.Indexed,
			MaxBytes:       int32(field.MaxBytes),
			Mask:           lethev1.MaskKind(mask),
			Purposes:       field.Purposes,
			Description:    field.Description,
		})
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	return out, nil
}

func schemaOf(wire *lethev1.Schema) *Schema {
	return &Schema{
		Name:                          wire.GetName(),
		Fields:                        each(wire.GetFields(), fieldOf),
		RetainFor:                     wire.GetRetainFor(),
		EraseOldVersionsSynchronously: wire.GetEraseOldVersionsSynchronously(),
		Revision:                      int(wire.GetRevision()),
		UpdateTime:                    timeOf(wire.GetUpdateTime()),
	}
}

func fieldOf(wire *lethev1.Field) Field {
	mask := MaskKind("")
	if wire.GetMask() != lethev1.MaskKind_MASK_KIND_UNSPECIFIED {
		mask = MaskKind(enumName(wire.GetMask().String(), "MASK_KIND_"))
	}
	return Field{
		Name:           wire.GetName(),
		Kind:           FieldKind(enumName(wire.GetKind().String(), "FIELD_KIND_")),
		Classification: classOf(wire.GetClassification()),
		Required:       wire.GetRequired(),
		Unique:         wire.GetUnique(),
		Indexed:        wire.GetIndexed(),
		MaxBytes:       int(wire.GetMaxBytes()),
		Mask:           mask,
		Purposes:       wire.GetPurposes(),
		Description:    wire.GetDescription(),
	}
}
