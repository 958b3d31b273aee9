package client_test

import (
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	client "lethe.example/client"
)

func TestTheReadmeShowsTheExampleAsItIs(t *testing.T) {
	program, err := os.ReadFile("example/main.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(program), "func run(")
	if !strings.Contains(string(readme), "```go\nfunc run("+body+"```\n") {
		t.Error("README.md must hold the function run of example/main.go, letter by letter")
	}
}

func TestTheExampleRuns(t *testing.T) {
	folder := devFolder(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "run", "./example", folder).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"found Record(tenants/shop-", "[born email]", "there is one with this email", "refused 1 fields.email", "exported 2",
		"erased, level E",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not print %q", want)
		}
	}
	if strings.Contains(string(out), "@example.org") {
		t.Error("it prints a value")
	}
}

// TestLethectlReadsOurReceipts needs LETHECTL, the path of that program.
func TestLethectlReadsOurReceipts(t *testing.T) {
	program := os.Getenv("LETHECTL")
	if program == "" {
		t.Skip("not run: LETHECTL is not set")
	}
	folder, ctx := devFolder(t), context.Background()
	open := func(role string) *client.Client {
		out, err := client.Open(filepath.Join(folder, "client-"+role+".toml"), client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		return out
	}
	operator, application := open("operator"), open("application")
	tenant, err := operator.CreateTenant(ctx, tenantID(), "")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := operator.CreateSchema(ctx, tenant.Name, "customer", customerSchema())
	if err != nil {
		t.Fatal(err)
	}
	record, err := application.Create(ctx, tenant.Name,
		client.NewRecord{Schema: schema.Name, Fields: client.Fields{"email": "ada@example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := application.Erase(ctx, record.Name, client.ReasonSubjectRequest, "")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "receipt.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := client.WriteReceipts(file, receipt); err != nil {
		t.Fatal(err)
	}
	status, err := operator.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "receipt", "verify", file.Name(),
		"--public-key", hex.EncodeToString(status.PublicKey)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "1 verified") {
		t.Errorf("%v\n%s", err, out)
	}
}
