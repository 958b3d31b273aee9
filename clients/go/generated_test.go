package client

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// What internal/gen was made from, and what came out, as scripts/generate noted it: a contract that changed since, and
// generated code that was edited, do not pass.
func TestGeneratedCodeIsOfThisContract(t *testing.T) {
	noted, err := os.ReadFile("internal/gen/SHA256SUMS")
	check(t, err)
	var lines []string
	for _, tree := range []struct{ root, suffix string }{{"../../proto", ".proto"}, {"internal/gen", ".go"}} {
		found := 0
		err := fs.WalkDir(os.DirFS(tree.root), ".", func(name string, _ fs.DirEntry, err error) error {
			if err != nil || path.Ext(name) != tree.suffix {
				return err
			}
			found++
			text, err := os.ReadFile(tree.root + "/" + name)
			lines = append(lines, fmt.Sprintf("%x  %s", sha256.Sum256(text), name))
			return err
		})
		check(t, err)
		if found == 0 {
			t.Fatalf("%s holds no %s file", tree.root, tree.suffix)
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	if now := strings.Join(lines, "\n") + "\n"; now != string(noted) {
		t.Errorf("run scripts/generate: internal/gen is not of this contract; it is\n%sinstead of\n%s", now, noted)
	}
}
