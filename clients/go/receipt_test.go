package client

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"lethe.example/client/internal/gen/lethev1"
)

const erasedName = "tenants/t/records/00000000-0000-4000-8000-000000000001"

// signReceipt is a vault's receipt of version 3 of erasedName, by a key of its own.
func signReceipt(t *testing.T) (*Receipt, ed25519.PrivateKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	signed := signedReceipt{
		Kind: kindRecord, Reason: 1, Seq: 41, Generation: 9, Level: 1, Medium: 1,
		Requested: 1_700_000_000_001, Removed: 1_700_000_000_002, Scrubbed: 1_700_000_000_003,
		Tenant: [3]byte{0, 0, 5},
	}
	copy(signed.Tag[:], "VE1")
	copy(signed.Magic[:], "LTL1")
	copy(signed.Vault[:], "vault-of-16-byte")
	id, _ := uuidOf(erasedName)
	version := binary.BigEndian.AppendUint64(nil, 3)
	signed.Unit = sha256.Sum256(labelled("VU1", signed.Vault[:], signed.Tenant[:], id, version))
	text, err := binary.Append(nil, binary.BigEndian, signed)
	check(t, err)
	return &Receipt{
		Name: erasedName, Level: LevelLocalAnchor, Reason: ReasonSubjectRequest, Generation: 9, LeafIndex: 41,
		RequestTime: time.UnixMilli(signed.Requested), EraseTime: time.UnixMilli(signed.Scrubbed),
		SignedBytes: text, Signature: ed25519.Sign(key, text), PublicKey: key.Public().(ed25519.PublicKey),
	}, key
}

func TestATrueReceiptVerifiesAndSaysWhichVersion(t *testing.T) {
	receipt, key := signReceipt(t)
	if len(receipt.SignedBytes) != 3+16+208+10 {
		t.Fatal(len(receipt.SignedBytes))
	}
	got, err := VerifyReceipt(receipt, key.Public().(ed25519.PublicKey))
	check(t, err)
	if got.RecordVersion != 3 || got.Generation != 9 || got.VaultID != "7661756c742d6f662d31362d62797465" {
		t.Errorf("%+v", got)
	}
	var file bytes.Buffer
	check(t, WriteReceipts(&file, receipt))
	read, err := ReadReceipts(&file)
	check(t, err)
	if _, err := VerifyReceipt(read[0], key.Public().(ed25519.PublicKey)); err != nil {
		t.Error(err)
	}
}

func TestEverySpoiltByteIsNoticed(t *testing.T) {
	receipt, key := signReceipt(t)
	public := key.Public().(ed25519.PublicKey)
	for _, part := range [][]byte{receipt.SignedBytes, receipt.Signature} {
		for at := range part {
			part[at] ^= 1
			if _, err := VerifyReceipt(receipt, public); err == nil {
				t.Errorf("byte %d", at)
			}
			part[at] ^= 1
		}
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32)).Public().(ed25519.PublicKey)
	for _, foreign := range [][]byte{other, nil, public[:31]} {
		if _, err := VerifyReceipt(receipt, foreign); err == nil {
			t.Error("a foreign key passes")
		}
	}
}

func TestEveryFalseClaimBesideTheSignatureIsNoticed(t *testing.T) {
	receipt, key := signReceipt(t)
	for what, spoil := range map[string]func(*Receipt){
		"name":         func(r *Receipt) { r.Name = strings.Replace(r.Name, "0001", "0002", 1) },
		"level":        func(r *Receipt) { r.Level = LevelAllAnchors },
		"reason":       func(r *Receipt) { r.Reason = ReasonRetention },
		"generation":   func(r *Receipt) { r.Generation++ },
		"leaf_index":   func(r *Receipt) { r.LeafIndex++ },
		"request_time": func(r *Receipt) { r.RequestTime = r.RequestTime.Add(time.Millisecond) },
		"erase_time":   func(r *Receipt) { r.EraseTime = r.EraseTime.Add(time.Millisecond) },
	} {
		spoilt := *receipt
		spoil(&spoilt)
		_, err := VerifyReceipt(&spoilt, key.Public().(ed25519.PublicKey))
		if err == nil || !strings.HasPrefix(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestEveryReasonOfTheContractIsKnown(t *testing.T) {
	receipt, key := signReceipt(t)
	for name, number := range lethev1.ErasureReason_value {
		if number == 0 {
			continue
		}
		told := *receipt
		told.Reason = ErasureReason(enumName(name, "ERASURE_REASON_"))
		told.SignedBytes = bytes.Clone(receipt.SignedBytes)
		told.SignedBytes[24] = byte(number)
		told.Signature = ed25519.Sign(key, told.SignedBytes)
		got, err := VerifyReceipt(&told, key.Public().(ed25519.PublicKey))
		if err != nil || got.Reason != told.Reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsSignedButNoReceiptIsRefused(t *testing.T) {
	receipt, key := signReceipt(t)
	for at, value := range map[int]byte{0: 'X', 19: 'X', 23: 2, 24: 0, 221: 1, 227: 4, 228: 0} {
		spoilt := *receipt
		spoilt.SignedBytes = bytes.Clone(receipt.SignedBytes)
		spoilt.SignedBytes[at] = value
		spoilt.Signature = ed25519.Sign(key, spoilt.SignedBytes)
		_, err := VerifyReceipt(&spoilt, key.Public().(ed25519.PublicKey))
		if err == nil || !strings.Contains(err.Error(), "are not a receipt") {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	spoilt := *receipt
	spoilt.SignedBytes = append(bytes.Clone(receipt.SignedBytes), 0)
	spoilt.Signature = ed25519.Sign(key, spoilt.SignedBytes)
	if _, err := VerifyReceipt(&spoilt, key.Public().(ed25519.PublicKey)); err == nil {
		t.Error("a byte too many")
	}
}
