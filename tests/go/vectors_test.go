// Package logs holds the vault's logs against another implementation of transparency logs, golang.org/x/mod.
package logs

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// vectors is what tests/it/vectors.rs holds the vault's own code against. UPDATE_VECTORS=1 writes it anew.
const vectors = "../golden/tlog.txt"

const (
	// smallMax is up to which size every proof there is is hashed.
	smallMax = 300
	largeMax = 200_000
)

// tree is a log in memory.
type tree struct {
	stored []tlog.Hash
}

func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for at, index := range indexes {
		found[at] = t.stored[index]
	}
	return found, nil
}

func newTree(t *testing.T, size int64) *tree {
	t.Helper()
	made := &tree{}
	for n := range size {
		hashes, err := tlog.StoredHashes(n, []byte(strconv.FormatInt(n, 10)), made)
		if err != nil {
			t.Fatal(err)
		}
		made.stored = append(made.stored, hashes...)
	}
	return made
}

func must[T any](t *testing.T, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func add(sum hash.Hash, proof []tlog.Hash) {
	for _, h := range proof {
		sum.Write(h[:])
	}
	sum.Write([]byte{byte(len(proof))})
}

// dice is xorshift64*, so that the vectors are the same each time.
type dice uint64

func (d *dice) below(n int64) int64 {
	*d ^= *d >> 12
	*d ^= *d << 25
	*d ^= *d >> 27
	return int64((uint64(*d) * 0x2545F4914F6CDD1D >> 33) % uint64(n))
}

func hexOf(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)) }

func proofHash(proof []tlog.Hash) string {
	sum := sha256.New()
	add(sum, proof)
	return hexOf(sum)
}

// The vectors: every proof of all small trees, some of large ones, tiles, and a note. Leaf n is n in decimal.
func makeVectors(t *testing.T) []byte {
	var out bytes.Buffer
	all := newTree(t, largeMax)
	for size := int64(1); size <= smallMax; size++ {
		root, err := tlog.TreeHash(size, all)
		must(t, root, err)
		inclusion, consistency := sha256.New(), sha256.New()
		for n := range size {
			proof, err := tlog.ProveRecord(size, n, all)
			add(inclusion, must(t, proof, err))
			older, err := tlog.ProveTree(size, n+1, all)
			add(consistency, must(t, older, err))
		}
		fmt.Fprintf(&out, "small %d %x %s %s\n", size, root[:], hexOf(inclusion), hexOf(consistency))
	}
	random := dice(9)
	for range 60 {
		size := 2 + random.below(largeMax-2)
		index, old := random.below(size), 1+random.below(size)
		root, err := tlog.TreeHash(size, all)
		must(t, root, err)
		record, err := tlog.ProveRecord(size, index, all)
		must(t, record, err)
		older, err := tlog.ProveTree(size, old, all)
		must(t, older, err)
		fmt.Fprintf(&out, "large %d %x %d %s %d %s\n", size, root[:], index, proofHash(record), old, proofHash(older))
	}
	for _, size := range []int64{1, 255, 256, 257, 65_535, 65_536, 70_000, largeMax} {
		sum := sha256.New()
		for level := range 8 {
			hashes := size >> (8 * level)
			for n := int64(0); n*256 < hashes; n++ {
				tile := tlog.Tile{H: 8, L: level, N: n, W: int(min(256, hashes-n*256))}
				data, err := tlog.ReadTileData(tile, all)
				sum.Write(must(t, data, err))
				sum.Write([]byte(pathOf(tile)))
			}
		}
		fmt.Fprintf(&out, "tiles %d %s\n", size, hexOf(sum))
	}
	seed := bytes.Repeat([]byte{3}, ed25519.SeedSize)
	for _, log := range []string{"ledger", "audit"} {
		origin := "lethe/" + strings.Repeat("05", 16) + "/" + log
		root, err := tlog.TreeHash(smallMax, all)
		must(t, root, err)
		text := fmt.Sprintf("%s\n%d\n%s\n", origin, smallMax, base64.StdEncoding.EncodeToString(root[:]))
		signed, err := note.Sign(&note.Note{Text: text}, signer(t, origin, seed))
		must(t, signed, err)
		key, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
		must(t, key, err)
		fmt.Fprintf(&out, "note %s %s\n", key, base64.StdEncoding.EncodeToString(signed))
	}
	return out.Bytes()
}

func signer(t *testing.T, name string, seed []byte) note.Signer {
	t.Helper()
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	key := append([]byte{1}, public...)
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	id := binary.BigEndian.Uint32(sum[:])
	private := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, id,
		base64.StdEncoding.EncodeToString(append([]byte{1}, seed...)))
	made, err := note.NewSigner(private)
	return must(t, made, err)
}

// pathOf is the path of C2SP tlog-tiles: without the height, and with entries for data.
func pathOf(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), "tile/8/")
	if rest, data := strings.CutPrefix(path, "data/"); data {
		path = "entries/" + rest
	}
	return "tile/" + path
}

func TestTheVectorsAreThoseOfAnotherImplementation(t *testing.T) {
	made := makeVectors(t)
	if os.Getenv("UPDATE_VECTORS") != "" {
		if err := os.WriteFile(vectors, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(vectors)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, kept) {
		t.Fatalf("%s is not what golang.org/x/mod makes", vectors)
	}
}
