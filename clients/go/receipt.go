package client

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"lethe.example/client/internal/gen/lethev1"
)

// ErasureReason says why something was erased. Empty means the vault's default for the call.
type ErasureReason string

// The reasons. A caller cannot claim the last three: they are the vault's own.
const (
	ReasonSubjectRequest ErasureReason = "SUBJECT_REQUEST"
	ReasonRetention      ErasureReason = "RETENTION"
	ReasonContract       ErasureReason = "CONTRACT"
	ReasonSuperseded     ErasureReason = "SUPERSEDED"
	ReasonUnacknowledged ErasureReason = "UNACKNOWLEDGED"
	// ReasonMoved: it lives on under another key, in the bucket that the retention rules want.
	ReasonMoved ErasureReason = "MOVED"
)

// unknownReason is no number of the contract: the vault answers it with a violation of `reason`.
const unknownReason = -1

func (r ErasureReason) toWire() lethev1.ErasureReason {
	if r == "" {
		return lethev1.ErasureReason_ERASURE_REASON_UNSPECIFIED
	}
	number, known := lethev1.ErasureReason_value["ERASURE_REASON_"+string(r)]
	if !known {
		number = unknownReason
	}
	return lethev1.ErasureReason(number)
}

// ErasureLevel says how far an erasure has got.
type ErasureLevel string

// The levels, least first.
const (
	// LevelTombstoned: reads are refused; the old keys may still be found on the medium.
	LevelTombstoned ErasureLevel = "E0_TOMBSTONED"
	// LevelLocalAnchor: the keys exist nowhere in this vault.
	LevelLocalAnchor ErasureLevel = "E1_LOCAL_ANCHOR_SCRUBBED"
	// LevelAllAnchors: nor in any replica.
	LevelAllAnchors ErasureLevel = "E2_ALL_ANCHORS_SCRUBBED"
	// LevelCollected: the ciphertext is collected too.
	LevelCollected ErasureLevel = "E3_CIPHERTEXT_COLLECTED"
)

// Receipt is the signed evidence of one erasure. Its JSON form is that of lethectl's receipts.
type Receipt struct {
	// Name is of the record, subject or bucket that was erased.
	Name        string        `json:"name"`
	Level       ErasureLevel  `json:"level"`
	Reason      ErasureReason `json:"reason"`
	Generation  uint64        `json:"generation"`
	LeafIndex   uint64        `json:"leaf_index"`
	RequestTime time.Time     `json:"request_time"`
	EraseTime   time.Time     `json:"erase_time"`
	// Caveat says what the receipt does not cover; for people.
	Caveat      string `json:"caveat"`
	SignedBytes []byte `json:"signed_bytes"`
	Signature   []byte `json:"signature"`
	// PublicKey is what the vault says its key is. Trust it only if you know it from elsewhere.
	PublicKey []byte `json:"public_key"`
}

func receiptOf(wire *lethev1.ErasureReceipt) *Receipt {
	return &Receipt{
		Name:        wire.GetName(),
		Level:       levelOf(wire.GetLevel()),
		Reason:      ErasureReason(enumName(wire.GetReason().String(), "ERASURE_REASON_")),
		Generation:  wire.GetGeneration(),
		LeafIndex:   wire.GetLeafIndex(),
		RequestTime: timeOf(wire.GetRequestTime()),
		EraseTime:   timeOf(wire.GetEraseTime()),
		Caveat:      wire.GetCaveat(),
		SignedBytes: wire.GetSignedBytes(),
		Signature:   wire.GetSignature(),
		PublicKey:   wire.GetPublicKey(),
	}
}

// receiptFile is the file that `lethectl record erase --receipt` writes and `lethectl receipt verify` reads.
type receiptFile struct {
	Receipts []*Receipt `json:"receipts"`
}

// WriteReceipts saves receipts in the form that `lethectl receipt verify` reads.
func WriteReceipts(to io.Writer, receipts ...*Receipt) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(receiptFile{receipts})
}

// ReadReceipts reads what WriteReceipts or lethectl saved. It does not verify them.
func ReadReceipts(from io.Reader) ([]*Receipt, error) {
	var file receiptFile
	if err := json.NewDecoder(io.LimitReader(from, receiptFileMax)).Decode(&file); err != nil {
		return nil, errors.New("not a file of receipts")
	}
	for _, receipt := range file.Receipts {
		if receipt == nil {
			return nil, errors.New("not a file of receipts")
		}
	}
	return file.Receipts, nil
}

// receiptFileMax bounds a file of receipts: the erasure of a subject gives at most 5001.
const receiptFileMax = 16 << 20

// Verified is what a receipt's signed bytes say.
type Verified struct {
	Name string
	// RecordVersion is the version that the signature is about; 0 for a bucket, whose name is not signed.
	RecordVersion uint64
	// VaultID has 32 hex digits.
	VaultID    string
	Level      ErasureLevel
	Reason     ErasureReason
	Generation uint64
	LeafIndex  uint64
	// OverwritesInPlace: the anchor lies on a medium that overwrites blocks.
	OverwritesInPlace bool
	RequestTime       time.Time
	RemovedTime       time.Time
	ScrubbedTime      time.Time
}

// signedReceipt is the layout of docs/FORMAT.md §7.
type signedReceipt struct {
	Tag                [3]byte
	Vault              [16]byte
	Magic              [4]byte
	Kind, Reason       uint8
	LeafLevel          uint8
	LeafMedium         uint8
	Seq, Generation    uint64
	Index              uint32
	Pseudonym          [16]byte
	Unit               [32]byte
	Tenant, Bucket     [3]byte
	Page               [3]byte
	Slot               uint8
	Request            [32]byte
	Requested, Removed int64
	Count              uint32
	OldRows, NewRows   [32]byte
	Reserved           [6]byte
	Level, Medium      uint8
	Scrubbed           int64
}

const (
	kindRecord = 1
	kindBucket = 4
	// versionsMax bounds the search for a record's version, which is in a hash only.
	versionsMax = 100_000
)

// VerifyReceipt checks a receipt without the vault, under the public key that the caller trusts: the signature, that
// what the receipt says beside the signed bytes agrees with them, and that they are about the record or subject of
// its name. A bucket's name is not signed.
func VerifyReceipt(receipt *Receipt, publicKey []byte) (*Verified, error) {
	if err := checkSignature(receipt.SignedBytes, receipt.Signature, publicKey); err != nil {
		return nil, err
	}
	var signed signedReceipt
	if len(receipt.SignedBytes) != binary.Size(signed) {
		return nil, errors.New("signed_bytes: are not a receipt")
	}
	if _, err := binary.Decode(receipt.SignedBytes, binary.BigEndian, &signed); err != nil {
		return nil, errors.New("signed_bytes: are not a receipt")
	}
	level := map[uint8]ErasureLevel{
		0: LevelTombstoned, 1: LevelLocalAnchor, 2: LevelAllAnchors, 3: LevelCollected,
	}[signed.Level]
	reason := map[uint8]ErasureReason{
		1: ReasonSubjectRequest, 2: ReasonRetention, 3: ReasonSuperseded, 4: ReasonContract, 5: ReasonUnacknowledged,
		6: ReasonMoved,
	}[signed.Reason]
	isReceipt := string(signed.Tag[:]) == "VE1" && string(signed.Magic[:]) == "LTL1" &&
		(signed.Kind == kindRecord || signed.Kind == kindBucket) && signed.Reserved == [6]byte{} &&
		level != "" && reason != "" && (signed.Medium == 1 || signed.Medium == 2)
	if !isReceipt {
		return nil, errors.New("signed_bytes: are not a receipt")
	}
	if err := checkClaims([]claim{
		{"level", receipt.Level == level},
		{"reason", receipt.Reason == reason},
		{"generation", receipt.Generation == signed.Generation},
		{"leaf_index", receipt.LeafIndex == signed.Seq},
		{"request_time", receipt.RequestTime.Equal(time.UnixMilli(signed.Requested))},
		{"erase_time", receipt.EraseTime.Equal(time.UnixMilli(signed.Scrubbed))},
	}); err != nil {
		return nil, err
	}
	version, bound := signed.versionOf(receipt.Name)
	if !bound {
		return nil, errors.New("name: is not what was signed")
	}
	return &Verified{
		Name:              receipt.Name,
		RecordVersion:     version,
		VaultID:           hex.EncodeToString(signed.Vault[:]),
		Level:             level,
		Reason:            reason,
		Generation:        signed.Generation,
		LeafIndex:         signed.Seq,
		OverwritesInPlace: signed.Medium == 1,
		RequestTime:       time.UnixMilli(signed.Requested).UTC(),
		RemovedTime:       time.UnixMilli(signed.Removed).UTC(),
		ScrubbedTime:      time.UnixMilli(signed.Scrubbed).UTC(),
	}, nil
}

func checkSignature(signed, signature, publicKey []byte) error {
	if len(publicKey) != ed25519.PublicKeySize {
		return errors.New("the public key has not 32 bytes")
	}
	if !ed25519.Verify(publicKey, signed, signature) {
		return errors.New("signature: is not from the holder of this public key")
	}
	return nil
}

// claim is what is said beside signed bytes, and whether it is what they say.
type claim struct {
	field string
	holds bool
}

func checkClaims(claims []claim) error {
	for _, claim := range claims {
		if !claim.holds {
			return fmt.Errorf("%s: is not what was signed", claim.field)
		}
	}
	return nil
}

// versionOf finds which version of the named record the signed hash is of.
func (s *signedReceipt) versionOf(name string) (version uint64, bound bool) {
	if s.Kind == kindBucket {
		return 0, s.Unit == sha256.Sum256(labelled("VB1", s.Vault[:], s.Tenant[:], s.Bucket[:]))
	}
	id, ok := uuidOf(name)
	if !ok {
		return 0, false
	}
	input := labelled("VU1", s.Vault[:], s.Tenant[:], id, make([]byte, 8))
	for version = 1; version <= versionsMax; version++ {
		binary.BigEndian.PutUint64(input[len(input)-8:], version)
		if s.Unit == sha256.Sum256(input) {
			return version, true
		}
	}
	return 0, false
}

func labelled(label string, parts ...[]byte) []byte {
	return append([]byte(label), bytes.Join(parts, nil)...)
}

// uuidOf is the id at the end of a record's or subject's name.
func uuidOf(name string) ([]byte, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "tenants" || (parts[2] != "records" && parts[2] != "subjects") {
		return nil, false
	}
	id, err := hex.DecodeString(strings.ReplaceAll(parts[3], "-", ""))
	return id, err == nil && len(id) == 16 && len(parts[3]) == 36
}
