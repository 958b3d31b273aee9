package client

import (
	"context"
	"iter"
	"time"

	"lethe.example/client/internal/gen/adminv1"
	"lethe.example/client/internal/gen/lethev1"
)

// Status is a vault's state.
type Status struct {
	// VaultID has 32 hex digits.
	VaultID     string
	Version     string
	StoreEngine string
	// Generation is the anchor's.
	Generation uint64
	LedgerSize uint64
	LedgerRoot []byte
	// AdvertisedLevel is what receipts can claim here.
	AdvertisedLevel ErasureLevel
	// Warnings say what needs attention.
	Warnings        []string
	StartTime       time.Time
	Tenants         uint64
	PendingErasures uint64
	// PublicKey is the vault's Ed25519 key. Note it once, over a path that you trust, to verify receipts with.
	PublicKey []byte
	Counters  map[string]uint64
}

// KeyInfo is about one kind of key.
type KeyInfo struct {
	Kind      string
	KeyID     string
	WrappedBy string
	Count     uint64
	// Since is a time before which none of them was made; zero if there is none.
	Since time.Time
	// NewestSince is a time before which the youngest was not made.
	NewestSince time.Time
	// OldestGeneration and NewestGeneration are those that the oldest and the youngest were made with; 0 for the KEK.
	OldestGeneration, NewestGeneration uint64
}

// Bucket are the records of one type that expire on one day.
type Bucket struct {
	Schema string
	// ExpireDate is empty if open-ended.
	ExpireDate string
}

// Status returns the vault's state.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	answer, err := call(ctx, c, safely, c.vault.GetStatus, &adminv1.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	return &Status{
		VaultID:         answer.GetVaultId(),
		Version:         answer.GetVersion(),
		StoreEngine:     answer.GetStoreEngine(),
		Generation:      answer.GetGeneration(),
		LedgerSize:      answer.GetLedgerSize(),
		LedgerRoot:      answer.GetLedgerRoot(),
		AdvertisedLevel: levelOf(answer.GetAdvertisedLevel()),
		Warnings:        answer.GetWarnings(),
		StartTime:       timeOf(answer.GetStartTime()),
		Tenants:         answer.GetTenants(),
		PendingErasures: answer.GetPendingErasures(),
		PublicKey:       answer.GetPublicKey(),
		Counters:        answer.GetCounters(),
	}, nil
}

// KeyStatus says what is wrapped by what, and how old each key is.
func (c *Client) KeyStatus(ctx context.Context) ([]KeyInfo, error) {
	answer, err := call(ctx, c, safely, c.vault.GetKeyStatus, &adminv1.GetKeyStatusRequest{})
	if err != nil {
		return nil, err
	}
	return each(answer.GetKeys(), keyInfoOf), nil
}

// RotateKey gives the vault a new KEK and a new root key. It is sent once. It returns the KEK and the generation.
func (c *Client) RotateKey(ctx context.Context) (KeyInfo, uint64, error) {
	answer, err := call(ctx, c, never, c.vault.RotateKey, &adminv1.RotateKeyRequest{})
	if err != nil {
		return KeyInfo{}, 0, err
	}
	return keyInfoOf(answer.GetKek()), answer.GetGeneration(), nil
}

// Buckets gives the retention buckets of a tenant.
func (c *Client) Buckets(ctx context.Context, parent string) iter.Seq2[Bucket, error] {
	return paged(func(token string) ([]Bucket, string, error) {
		answer, err := call(ctx, c, safely, c.vault.ListBuckets,
			&adminv1.ListBucketsRequest{Parent: parent, PageToken: token})
		if err != nil {
			return nil, "", err
		}
		return each(answer.GetBuckets(), func(b *adminv1.Bucket) Bucket {
			return Bucket{b.GetSchema(), b.GetExpireDate()}
		}), answer.GetNextPageToken(), nil
	})
}

// EraseBucket erases every record of a type that expires on one day, at once. It is sent once.
func (c *Client) EraseBucket(ctx context.Context, bucket Bucket, reason ErasureReason) (*Receipt, error) {
	answer, err := call(ctx, c, never, c.vault.EraseBucket, &adminv1.EraseBucketRequest{
		Schema: bucket.Schema, ExpireDate: bucket.ExpireDate, Reason: reason.toWire(),
	})
	if err != nil {
		return nil, err
	}
	return receiptOf(answer.GetReceipt()), nil
}

func keyInfoOf(wire *adminv1.KeyInfo) KeyInfo {
	return KeyInfo{
		Kind:             wire.GetKind(),
		KeyID:            wire.GetKeyId(),
		WrappedBy:        wire.GetWrappedBy(),
		Count:            wire.GetCount(),
		Since:            timeOf(wire.GetSince()),
		NewestSince:      timeOf(wire.GetNewestSince()),
		OldestGeneration: wire.GetOldestGeneration(),
		NewestGeneration: wire.GetNewestGeneration(),
	}
}

func levelOf(wire lethev1.ErasureLevel) ErasureLevel {
	return ErasureLevel(enumName(wire.String(), "ERASURE_LEVEL_"))
}
