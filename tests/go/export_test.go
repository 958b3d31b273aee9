package logs

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// vault is a `lethed dev` of its own, and lethectl.
type vault struct {
	t         *testing.T
	folder    string
	public    ed25519.PublicKey
	publicHex string
}

func newVault(t *testing.T) *vault {
	t.Helper()
	program := os.Getenv("LETHED")
	if program == "" || os.Getenv("LETHECTL") == "" {
		t.Skip("not run: LETHED and LETHECTL are not set")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, listener, err)
	address := listener.Addr().String()
	listener.Close()
	made := &vault{t: t, folder: filepath.Join(t.TempDir(), "vault")}
	daemon := exec.Command(program, "dev", "--dir", made.folder, "--listen", address)
	var log bytes.Buffer
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(os.Interrupt)
		_ = daemon.Wait()
	})
	end := time.Now().Add(30 * time.Second)
	for {
		if _, err := made.try("operator", "status"); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%v\n%s", err, log.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
	var status struct {
		PublicKey string `json:"public_key"`
	}
	made.json(&status, "operator", "status")
	made.publicHex = status.PublicKey
	key, err := hex.DecodeString(status.PublicKey)
	made.public = must(t, key, err)
	return made
}

func (v *vault) try(role string, arguments ...string) ([]byte, error) {
	config := filepath.Join(v.folder, "client-"+role+".toml")
	command := exec.Command(os.Getenv("LETHECTL"), append([]string{"--config", config, "--output", "json"}, arguments...)...)
	var out, told bytes.Buffer
	command.Stdout, command.Stderr = &out, &told
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", arguments, err, told.String())
	}
	return out.Bytes(), nil
}

func (v *vault) run(role string, arguments ...string) []byte {
	v.t.Helper()
	out, err := v.try(role, arguments...)
	return must(v.t, out, err)
}

func (v *vault) json(into any, role string, arguments ...string) {
	v.t.Helper()
	if err := json.Unmarshal(v.run(role, arguments...), into); err != nil {
		v.t.Fatal(err)
	}
}

// work fills both logs: each tenant is an entry of the audit log, each erased record a leaf of the ledger.
func (v *vault) work(round int) {
	v.t.Helper()
	dir := v.t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			v.t.Fatal(err)
		}
		return path
	}
	schema := write("schema.toml", "type = \"visit\"\nretain_for = \"P1Y\"\n\n[[field]]\nname = \"note\"\nkind = \"TEXT\"\n"+
		"classification = \"GENERAL\"\nmax_bytes = 50\n")
	mapping := write("mapping.toml", "type = \"visit\"\n[columns]\nnote = \"note\"\n")
	v.run("operator", "schema", "apply", schema, "--tenant", "shop", "--create-tenant")
	var rows strings.Builder
	rows.WriteString("note\n")
	for n := range 300 {
		fmt.Fprintf(&rows, "n%d-%d\n", round, n)
	}
	v.run("application", "record", "import", write("rows.csv", rows.String()), "--tenant", "shop", "--mapping", mapping,
		"--create-only")
	var list struct {
		Records []struct {
			Name string `json:"name"`
		} `json:"records"`
	}
	v.json(&list, "application", "record", "list", "--tenant", "shop", "--limit", "1000")
	if len(list.Records) != 300 {
		v.t.Fatalf("%d records", len(list.Records))
	}
	erase := []string{"record", "erase", "--yes"}
	for _, record := range list.Records {
		erase = append(erase, record.Name)
		v.run("application", "record", "get", record.Name)
	}
	v.run("application", erase...)
}

// folder reads an exported log by its files alone.
type folder struct {
	t    *testing.T
	dir  string
	read map[string]bool
}

func (f *folder) Height() int { return 8 }

func (f *folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		path := pathOf(tile)
		f.read[path] = true
		bytes, err := os.ReadFile(filepath.Join(f.dir, path))
		if err != nil {
			return nil, err
		}
		found = append(found, bytes)
	}
	return found, nil
}

func (f *folder) SaveTiles([]tlog.Tile, [][]byte) {}

// checkpoint is the tree in the folder's note, opened by Go's package.
func (f *folder) checkpoint(public ed25519.PublicKey) (tlog.Tree, string, string) {
	f.t.Helper()
	signed, err := os.ReadFile(filepath.Join(f.dir, "checkpoint"))
	return parse(f.t, must(f.t, signed, err), public)
}

func parse(t *testing.T, signed []byte, public ed25519.PublicKey) (tlog.Tree, string, string) {
	t.Helper()
	origin, _, _ := strings.Cut(string(signed), "\n")
	key, err := note.NewEd25519VerifierKey(origin, public)
	must(t, key, err)
	verifier, err := note.NewVerifier(key)
	must(t, verifier, err)
	opened, err := note.Open(signed, note.VerifierList(verifier))
	must(t, opened, err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != origin {
		t.Fatalf("%q", opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(t, size, err)
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: must(t, root, err)}, origin, opened.Text
}

// entries are those of all bundles.
func (f *folder) entries(size int64) [][]byte {
	f.t.Helper()
	var all [][]byte
	for n := int64(0); n*256 < size; n++ {
		tile := tlog.Tile{H: 8, L: -1, N: n, W: int(min(256, size-n*256))}
		data, err := os.ReadFile(filepath.Join(f.dir, pathOf(tile)))
		must(f.t, data, err)
		for len(data) > 0 {
			length := int(binary.BigEndian.Uint16(data))
			all = append(all, data[2:2+length])
			data = data[2+length:]
		}
	}
	if int64(len(all)) != size {
		f.t.Fatalf("%d entries, not %d", len(all), size)
	}
	return all
}

// cosigner verifies cosignatures of version 1, which Go's package does not know.
type cosigner struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func newCosigner(t *testing.T, vkey string) cosigner {
	t.Helper()
	parts := strings.SplitN(vkey, "+", 3)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	must(t, key, err)
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	id := binary.BigEndian.Uint32(sum[:])
	if key[0] != 4 || len(key) != 33 || parts[1] != fmt.Sprintf("%08x", id) {
		t.Fatalf("not a key of a witness: %s", vkey)
	}
	return cosigner{parts[0], id, key[1:]}
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.id }
func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 72 {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(c.key, []byte(signed), signature[8:])
}

// proofFile takes a proof of lethectl apart: its lines before the checkpoint, the hashes among them, the checkpoint.
func proofFile(t *testing.T, path string) ([]string, []tlog.Hash, []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	head, checkpoint, found := strings.Cut(string(must(t, text, err)), "\n\n")
	if !found {
		t.Fatalf("%q", text)
	}
	var lines []string
	var hashes []tlog.Hash
	for line := range strings.SplitSeq(head, "\n") {
		if h, err := tlog.ParseHash(line); err == nil && !strings.Contains(line, " ") {
			hashes = append(hashes, h)
		} else {
			lines = append(lines, line)
		}
	}
	return lines, hashes, []byte(checkpoint)
}

func TestExportedLogsAreReadByAnotherImplementation(t *testing.T) {
	v := newVault(t)
	v.work(1)
	for _, log := range []string{"ledger", "audit"} {
		t.Run(log, func(t *testing.T) { v.exported(t, log) })
	}
}

func (v *vault) exported(t *testing.T, log string) {
	base := t.TempDir()
	f := &folder{t: t, dir: filepath.Join(base, "tree"), read: map[string]bool{}}
	export := func() (tlog.Tree, []byte) {
		v.run("auditor", "log", "export", "--log", log, "--out", f.dir, "--public-key", v.publicHex)
		tree, origin, _ := f.checkpoint(v.public)
		if !strings.HasPrefix(origin, "lethe/") || !strings.HasSuffix(origin, "/"+log) {
			t.Fatal(origin)
		}
		kept, err := os.ReadFile(filepath.Join(f.dir, "checkpoint"))
		return tree, must(t, kept, err)
	}
	tree, note1 := export()
	if tree.N <= 256 {
		t.Fatalf("%d entries are no full tile", tree.N)
	}
	old := filepath.Join(base, "old")
	if err := os.WriteFile(old, note1, 0o600); err != nil {
		t.Fatal(err)
	}
	// Every hash that the reader takes from a tile it has checked against the root.
	reader := tlog.TileHashReader(tree, f)
	root, err := tlog.TreeHash(tree.N, reader)
	if must(t, root, err) != tree.Hash {
		t.Fatal("another root")
	}
	entries := f.entries(tree.N)
	for n, entry := range entries {
		stored, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(n))})
		if must(t, stored, err)[0] != tlog.RecordHash(entry) {
			t.Fatalf("entry %d", n)
		}
	}
	for _, index := range []int64{0, 1, 255, 256, tree.N - 1} {
		file := filepath.Join(base, "proof")
		v.run("auditor", "log", "prove", "inclusion", "--log", log, "--index", strconv.FormatInt(index, 10),
			"--checkpoint", old, "--to", file, "--public-key", v.publicHex)
		lines, proof, checkpoint := proofFile(t, file)
		ours, err := tlog.ProveRecord(tree.N, index, reader)
		must(t, ours, err)
		if fmt.Sprint(ours) != fmt.Sprint(tlog.RecordProof(proof)) || !bytes.Equal(checkpoint, note1) {
			t.Fatalf("another proof of %d: %v", index, lines)
		}
		extra, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
		if !bytes.Equal(must(t, extra, err), entries[index]) || lines[2] != fmt.Sprintf("index %d", index) {
			t.Fatalf("%v", lines)
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entries[index])); err != nil {
			t.Fatal(err)
		}
	}
	// The log goes on, the folder goes with it.
	for n := range 5 {
		v.run("operator", "tenant", "create", fmt.Sprintf("%s-%d", log, n))
	}
	v.run("operator", "key", "rotate")
	later, note2 := export()
	if later.N <= tree.N {
		t.Fatal("it did not grow")
	}
	file := filepath.Join(base, "consistency")
	next := filepath.Join(base, "next")
	if err := os.WriteFile(next, note2, 0o600); err != nil {
		t.Fatal(err)
	}
	v.run("auditor", "log", "prove", "consistency", "--since", old, "--checkpoint", next, "--to", file,
		"--public-key", v.publicHex)
	lines, proof, _ := proofFile(t, file)
	if lines[0] != fmt.Sprintf("old %d", tree.N) {
		t.Fatalf("%v", lines)
	}
	if err := tlog.CheckTree(proof, later.N, later.Hash, tree.N, tree.Hash); err != nil {
		t.Fatal(err)
	}
	reader = tlog.TileHashReader(later, f)
	root, err = tlog.TreeHash(tree.N, reader)
	if must(t, root, err) != tree.Hash {
		t.Fatal("the later tree does not begin with the earlier one")
	}
	v.run("auditor", "log", "verify", f.dir, "--since", old, "--public-key", v.publicHex)
	v.witnessed(t, base, old, next, file)
	v.spoilt(t, f, later)
}

// witnessed has a witness of lethectl cosign both checkpoints, and Go verify what it said.
func (v *vault) witnessed(t *testing.T, base, old, next, proof string) {
	key, state, cosigned := filepath.Join(base, "key"), filepath.Join(base, "state"), filepath.Join(base, "cosigned")
	var made struct {
		PublicKey string `json:"public_key"`
	}
	v.json(&made, "auditor", "log", "witness-key", "--name", "w.example/1", "--key", key)
	who := newCosigner(t, made.PublicKey)
	witness := func(checkpoint string, more ...string) error {
		_, err := v.try("auditor", append([]string{"log", "witness", "--checkpoint", checkpoint, "--state", state,
			"--key", key, "--public-key", v.publicHex, "--to", cosigned}, more...)...)
		return err
	}
	open := func() error {
		signed, err := os.ReadFile(cosigned)
		must(t, signed, err)
		parse(t, signed, v.public)
		opened, err := note.Open(signed, note.VerifierList(who))
		if err == nil && len(opened.Sigs) != 1 {
			return errors.New("not one signature")
		}
		return err
	}
	for _, step := range []struct {
		file  string
		more  []string
		right bool
	}{
		{old, nil, true}, {next, nil, false}, {next, []string{"--proof", proof}, true}, {old, nil, false},
	} {
		if err := witness(step.file, step.more...); (err == nil) != step.right {
			t.Fatalf("%v: %v", step, err)
		}
		if step.right {
			if err := open(); err != nil {
				t.Fatal(err)
			}
		}
	}
	v.run("auditor", "log", "verify", "--checkpoint", cosigned, "--public-key", v.publicHex, "--witness", made.PublicKey)
	if _, err := v.try("auditor", "log", "verify", "--checkpoint", next, "--public-key", v.publicHex,
		"--witness", made.PublicKey); err == nil {
		t.Fatal("nobody cosigned it")
	}
}

// spoilt flips a bit of each tile of the tree in turn: both sides notice.
func (v *vault) spoilt(t *testing.T, f *folder, tree tlog.Tree) {
	for level := range 8 {
		hashes := tree.N >> (8 * level)
		for n := int64(0); n*256 < hashes; n++ {
			tile := tlog.Tile{H: 8, L: level, N: n, W: int(min(256, hashes-n*256))}
			file := filepath.Join(f.dir, pathOf(tile))
			good, err := os.ReadFile(file)
			must(t, good, err)
			bad := bytes.Clone(good)
			bad[len(bad)/2] ^= 1
			must(t, 0, os.WriteFile(file, bad, 0o600))
			if _, err := v.try("auditor", "log", "verify", f.dir, "--public-key", v.publicHex); err == nil ||
				!strings.Contains(err.Error(), pathOf(tile)) {
				t.Fatalf("%s is not named: %v", pathOf(tile), err)
			}
			first := tlog.StoredHashIndex(8*level, n*256)
			if _, err := tlog.TileHashReader(tree, f).ReadHashes([]int64{first}); err == nil {
				t.Fatalf("%s: Go notices nothing", pathOf(tile))
			}
			must(t, 0, os.WriteFile(file, good, 0o600))
		}
	}
	v.run("auditor", "log", "verify", f.dir, "--public-key", v.publicHex)
}
