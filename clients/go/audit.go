package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"lethe.example/client/internal/gen/adminv1"
	"lethe.example/client/internal/gen/lethev1"
)

// AuditKind says what kind of thing an entry of the audit log tells.
type AuditKind string

// The kinds of entries.
const (
	// AuditCall: a call that was answered.
	AuditCall AuditKind = "CALL"
	// AuditRefusals: calls of one principal that were refused or failed, counted over about a minute.
	AuditRefusals AuditKind = "REFUSALS"
	// AuditGap: the vault was not stopped cleanly; calls answered shortly before may lack their entries.
	AuditGap AuditKind = "GAP"
	// AuditVault: something that the vault did of itself: it was opened, or stopped.
	AuditVault AuditKind = "VAULT"
	// AuditUnreadable: the entry is missing or damaged; only its index is known.
	AuditUnreadable AuditKind = "UNREADABLE"
)

// AuditMember is a subject and one of its records, by pseudonyms that are destroyed with them.
type AuditMember struct {
	// Subject has 16 bytes; zeros if the record did not open.
	Subject []byte
	// Record has 16 bytes; zeros for the subject itself.
	Record []byte
}

// AuditEntry says who did what, and when. It holds no value of a record.
type AuditEntry struct {
	// Index is its place in the log, from 0.
	Index uint64
	Kind  AuditKind
	// Method is `GetRecord`, …; `Open` and `Close` of the vault itself; `Other` where the method is not known.
	Method string
	// Code is OK of calls that were answered.
	Code       codes.Code
	CreateTime time.Time
	// StartTime is, of refusals, the first one's; of a gap its earliest beginning, zero if that is not known.
	StartTime time.Time
	// Principal is the URI of the caller's certificate; its hash in hex if the name is not kept; empty for the vault.
	Principal string
	Role      string
	// Tenant is `tenants/{tenant}`; empty if it was about none.
	Tenant string
	// Schema is `tenants/{tenant}/schemas/{type}`; empty if it was about none, about several, or about subjects alone.
	Schema string
	// Clear are the classes of fields that the caller saw in clear.
	Clear []Classification
	// Masked are the classes of fields that the caller saw masked.
	Masked []Classification
	// Purpose is empty if it was not said; its hash in hex if no schema names it any more.
	Purpose string
	// Total counts the records and subjects that the call was about, or refused calls.
	Total uint32
	// Part: an entry with many members has several parts under indexes that follow each other; the first is 0.
	Part uint32
	// Members are those of this part.
	Members []AuditMember
	// Generation is the anchor's, of an erasure, a rotation, an opening.
	Generation uint64
	// Leaf is the entry as the signed tree over the log has it.
	Leaf []byte
}

// AuditQuery says which entries to list.
type AuditQuery struct {
	// Parent is `tenants/{tenant}`; empty means all that the caller may see.
	Parent string
	// Subject is `tenants/{tenant}/subjects/{uuid}`: entries about it only, while it is not erased.
	Subject string
	// Principal is a URI: entries of this caller only.
	Principal string
	// PageSize is at most 1000; 0 means 50.
	PageSize int
	// PageToken continues after an earlier [AuditPage] of the same query.
	PageToken string
}

// AuditPage is a part of a list.
type AuditPage struct {
	// Entries are fewer than asked for, or none, also where more follow.
	Entries []*AuditEntry
	// NextPageToken continues after this page; empty on the last.
	NextPageToken string
}

// AuditHead says how many entries the audit log has and the root of the tree over them, signed. Keep it where the
// vault's operators cannot write.
type AuditHead struct {
	// VaultID has 32 hex digits.
	VaultID string
	Size    uint64
	Root    []byte
	// Generation is the anchor's that bound them.
	Generation  uint64
	CreateTime  time.Time
	SignedBytes []byte
	Signature   []byte
	// PublicKey is what the vault says its key is. Trust it only if you know it from elsewhere.
	PublicKey []byte
}

// AuditPage returns one page of the audit log, the newest entry first.
func (c *Client) AuditPage(ctx context.Context, of AuditQuery) (*AuditPage, error) {
	if of.PageSize < 0 || of.PageSize > 1000 {
		return nil, invalid(Violation{"page_size", "must be between 0 and 1000"})
	}
	answer, err := call(ctx, c, safely, c.audit.ListAuditEntries, &adminv1.ListAuditEntriesRequest{
		Parent: of.Parent, Subject: of.Subject, Principal: of.Principal,
		PageSize: int32(of.PageSize), PageToken: of.PageToken,
	})
	if err != nil {
		return nil, err
	}
	return &AuditPage{each(answer.GetEntries(), auditEntryOf), answer.GetNextPageToken()}, nil
}

// AuditEntries gives the entries of a query, the newest first.
func (c *Client) AuditEntries(ctx context.Context, of AuditQuery) iter.Seq2[*AuditEntry, error] {
	first := of.PageToken
	return paged(func(token string) ([]*AuditEntry, string, error) {
		if of.PageToken = token; token == "" {
			of.PageToken = first
		}
		page, err := c.AuditPage(ctx, of)
		if err != nil {
			return nil, "", err
		}
		return page.Entries, page.NextPageToken, nil
	})
}

// ExportAudit gives every entry from an index on, the oldest first. A stream that breaks is continued. Take the head
// before: [VerifyAudit] then says whether all that it is about has come.
func (c *Client) ExportAudit(ctx context.Context, start uint64) iter.Seq2[*AuditEntry, error] {
	return func(yield func(*AuditEntry, error) bool) {
		next := start
		open := func(ctx context.Context) (grpc.ServerStreamingClient[adminv1.ExportAuditEntriesResponse], error) {
			return c.audit.ExportAuditEntries(ctx, &adminv1.ExportAuditEntriesRequest{StartIndex: next})
		}
		take := func(part *adminv1.ExportAuditEntriesResponse) (bool, error) {
			for _, wire := range part.GetEntries() {
				entry := auditEntryOf(wire)
				if next = entry.Index + 1; !yield(entry, nil) {
					return true, nil
				}
			}
			return false, nil
		}
		if err := taken(ctx, c.timeout, open, take, nil); err != nil {
			yield(nil, err)
		}
	}
}

// AuditHead has the anchor bind the log as it is now and returns its signed head.
func (c *Client) AuditHead(ctx context.Context) (*AuditHead, error) {
	answer, err := call(ctx, c, safely, c.audit.GetAuditHead, &adminv1.GetAuditHeadRequest{})
	if err != nil {
		return nil, err
	}
	return &AuditHead{
		VaultID:     answer.GetVaultId(),
		Size:        answer.GetSize(),
		Root:        answer.GetRoot(),
		Generation:  answer.GetGeneration(),
		CreateTime:  timeOf(answer.GetCreateTime()),
		SignedBytes: answer.GetSignedBytes(),
		Signature:   answer.GetSignature(),
		PublicKey:   answer.GetPublicKey(),
	}, nil
}

// signedHead is the layout of docs/FORMAT.md §9.5.
type signedHead struct {
	Tag        [3]byte
	Vault      [16]byte
	Size       uint64
	Root       [32]byte
	Generation uint64
	At         int64
}

// leafBegin is how an entry begins (docs/FORMAT.md §9.1).
type leafBegin struct {
	Magic [4]byte
	Kind  uint8
	Act   uint16
	Code  uint8
	Seq   uint64
}

// VerifyAuditHead checks a head without the vault, under the public key that the caller trusts.
func VerifyAuditHead(head *AuditHead, publicKey []byte) error {
	if err := checkSignature(head.SignedBytes, head.Signature, publicKey); err != nil {
		return err
	}
	var signed signedHead
	size, err := binary.Decode(head.SignedBytes, binary.BigEndian, &signed)
	if err != nil || size != len(head.SignedBytes) || string(signed.Tag[:]) != "VD1" {
		return errors.New("signed_bytes: are not a head of an audit log")
	}
	return checkClaims([]claim{
		{"vault_id", head.VaultID == hex.EncodeToString(signed.Vault[:])},
		{"size", head.Size == signed.Size},
		{"root", bytes.Equal(head.Root, signed.Root[:])},
		{"generation", head.Generation == signed.Generation},
		{"create_time", head.CreateTime.Equal(time.UnixMilli(signed.At))},
	})
}

// VerifyAudit checks that these are the entries of a head, all of them from index 0 on, under the public key that the
// caller trusts. Later entries are not looked at. Of an entry its place and its Leaf are checked; `lethectl audit
// verify` also checks what is said beside the leaf.
func VerifyAudit(head *AuditHead, entries iter.Seq2[*AuditEntry, error], publicKey []byte) error {
	if err := VerifyAuditHead(head, publicKey); err != nil {
		return err
	}
	var tree hashTree
	for entry, err := range entries {
		if err != nil {
			return err
		}
		if tree.size == head.Size {
			break
		}
		var begin leafBegin
		_, err = binary.Decode(entry.Leaf, binary.BigEndian, &begin)
		if err != nil || begin.Seq != tree.size || entry.Index != tree.size {
			return fmt.Errorf("what came for entry %d is not that entry", tree.size)
		}
		tree.push(entry.Leaf)
	}
	if tree.size != head.Size || !bytes.Equal(tree.root(), head.Root) {
		return errors.New("the entries are not those of the signed head")
	}
	return nil
}

// hashTree is the tree of RFC 9162 §2.1: the roots of its perfect subtrees, the largest first.
type hashTree struct {
	size  uint64
	roots [][sha256.Size]byte
}

func (t *hashTree) push(leaf []byte) {
	node := sha256.Sum256(labelled("\x00", leaf))
	for full := t.size; full&1 == 1; full >>= 1 {
		node = parentOf(t.roots[len(t.roots)-1], node)
		t.roots = t.roots[:len(t.roots)-1]
	}
	t.roots = append(t.roots, node)
	t.size++
}

func (t *hashTree) root() []byte {
	out := sha256.Sum256(nil)
	for at := len(t.roots) - 1; at >= 0; at-- {
		if at == len(t.roots)-1 {
			out = t.roots[at]
		} else {
			out = parentOf(t.roots[at], out)
		}
	}
	return out[:]
}

func parentOf(left, right [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(labelled("\x01", left[:], right[:]))
}

func auditEntryOf(wire *adminv1.AuditEntry) *AuditEntry {
	return &AuditEntry{
		Index:      wire.GetIndex(),
		Kind:       AuditKind(enumName(wire.GetKind().String(), "AUDIT_ENTRY_KIND_")),
		Method:     wire.GetMethod(),
		Code:       codes.Code(wire.GetCode()),
		CreateTime: timeOf(wire.GetCreateTime()),
		StartTime:  timeOf(wire.GetStartTime()),
		Principal:  wire.GetPrincipal(),
		Role:       wire.GetRole(),
		Tenant:     wire.GetTenant(),
		Schema:     wire.GetSchema(),
		Clear:      each(wire.GetClear(), classOf),
		Masked:     each(wire.GetMasked(), classOf),
		Purpose:    wire.GetPurpose(),
		Total:      wire.GetTotal(),
		Part:       wire.GetPart(),
		Members: each(wire.GetMembers(), func(m *adminv1.AuditMember) AuditMember {
			return AuditMember{m.GetSubject(), m.GetRecord()}
		}),
		Generation: wire.GetGeneration(),
		Leaf:       wire.GetLeaf(),
	}
}

func classOf(wire lethev1.Classification) Classification {
	return Classification(enumName(wire.String(), "CLASSIFICATION_"))
}
