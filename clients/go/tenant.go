package client

import (
	"context"
	"iter"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"lethe.example/client/internal/gen/lethev1"
)

// Tenant is a data controller.
type Tenant struct {
	// Name is `tenants/{tenant}`.
	Name        string
	DisplayName string
	CreateTime  time.Time
	// Etag marks the version.
	Etag string
}

// TenantChange says how to change a tenant.
type TenantChange struct {
	// Name is `tenants/{tenant}`.
	Name string
	// Etag, if given, must be the current one.
	Etag        string
	DisplayName string
	// Mask says what changes; empty means `display_name`.
	Mask []string
}

// Subject is a person whom records are about.
type Subject struct {
	// Name is `tenants/{tenant}/subjects/{uuid}`. Keep it: it is the only handle.
	Name       string
	CreateTime time.Time
}

// CreateTenant creates a tenant of this id. It is sent once: it carries no request id.
func (c *Client) CreateTenant(ctx context.Context, id, displayName string) (*Tenant, error) {
	answer, err := call(ctx, c, never, c.tenants.CreateTenant, &lethev1.CreateTenantRequest{
		TenantId: id,
		Tenant:   &lethev1.Tenant{DisplayName: displayName},
	})
	if err != nil {
		return nil, err
	}
	return tenantOf(answer.GetTenant()), nil
}

// UpdateTenant changes what a tenant is called and returns it as it is now. It is sent once.
func (c *Client) UpdateTenant(ctx context.Context, change TenantChange) (*Tenant, error) {
	mask := change.Mask
	if len(mask) == 0 {
		// Without a mask an empty name would be one that is not given.
		mask = []string{"display_name"}
	}
	answer, err := call(ctx, c, never, c.tenants.UpdateTenant, &lethev1.UpdateTenantRequest{
		Tenant:     &lethev1.Tenant{Name: change.Name, DisplayName: change.DisplayName, Etag: change.Etag},
		UpdateMask: maskOf(mask),
	})
	if err != nil {
		return nil, err
	}
	return tenantOf(answer.GetTenant()), nil
}

// Tenant returns the tenant of this name.
func (c *Client) Tenant(ctx context.Context, name string) (*Tenant, error) {
	answer, err := call(ctx, c, safely, c.tenants.GetTenant, &lethev1.GetTenantRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return tenantOf(answer.GetTenant()), nil
}

// Tenants gives the tenants that the caller may see, by name.
func (c *Client) Tenants(ctx context.Context) iter.Seq2[*Tenant, error] {
	return paged(func(token string) ([]*Tenant, string, error) {
		answer, err := call(ctx, c, safely, c.tenants.ListTenants, &lethev1.ListTenantsRequest{PageToken: token})
		if err != nil {
			return nil, "", err
		}
		return each(answer.GetTenants(), tenantOf), answer.GetNextPageToken(), nil
	})
}

// CreateSubject creates a subject of a tenant. requestID may be empty: the client then makes one.
func (c *Client) CreateSubject(ctx context.Context, parent, requestID string) (*Subject, error) {
	answer, err := call(ctx, c, safely, c.subjects.CreateSubject, &lethev1.CreateSubjectRequest{
		Parent:    parent,
		RequestId: requestIDOr(requestID),
	})
	if err != nil {
		return nil, err
	}
	return subjectOf(answer.GetSubject()), nil
}

// Subject returns the subject of this name.
func (c *Client) Subject(ctx context.Context, name string) (*Subject, error) {
	answer, err := call(ctx, c, safely, c.subjects.GetSubject, &lethev1.GetSubjectRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return subjectOf(answer.GetSubject()), nil
}

// EraseSubject erases a subject with all its records. It returns the subject's receipt and those of the records. It
// is sent once; when its outcome is not known, erase again: what is erased already is not harmed.
func (c *Client) EraseSubject(ctx context.Context, name string, reason ErasureReason) (*Receipt, []*Receipt, error) {
	answer, err := call(ctx, c, never, c.subjects.EraseSubject, &lethev1.EraseSubjectRequest{
		Name:   name,
		Reason: reason.toWire(),
	})
	if err != nil {
		return nil, nil, err
	}
	receipts := each(answer.GetRecordReceipts(), receiptOf)
	if err := postponed(answer.GetPostponed(), receipts); err != nil {
		return nil, nil, err
	}
	return receiptOf(answer.GetReceipt()), receipts, nil
}

func tenantOf(wire *lethev1.Tenant) *Tenant {
	return &Tenant{wire.GetName(), wire.GetDisplayName(), timeOf(wire.GetCreateTime()), wire.GetEtag()}
}

func subjectOf(wire *lethev1.Subject) *Subject {
	return &Subject{wire.GetName(), timeOf(wire.GetCreateTime())}
}

// timeOf is the zero time where there is none.
func timeOf(wire *timestamppb.Timestamp) time.Time {
	if wire == nil {
		return time.Time{}
	}
	return wire.AsTime()
}

func each[A, B any](all []A, of func(A) B) []B {
	out := make([]B, len(all))
	for at, one := range all {
		out[at] = of(one)
	}
	return out
}

// paged walks over all pages. It ends at the first error, and when the caller stops.
func paged[T any](page func(token string) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			all, next, err := page(token)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, one := range all {
				if !yield(one, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			token = next
		}
	}
}

// enumName is an enum's name on the wire without its prefix.
func enumName(name, prefix string) string {
	return strings.TrimPrefix(name, prefix)
}
