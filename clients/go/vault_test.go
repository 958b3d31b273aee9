package client_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	client "lethe.example/client"
)

// devVault is the folder of a `lethed dev`: that which LETHE_DEV_DIR names, or one of the program that LETHED names,
// started once for all tests.
var devVault = sync.OnceValues(func() (string, error) {
	if folder := os.Getenv("LETHE_DEV_DIR"); folder != "" {
		return folder, nil
	}
	program := os.Getenv("LETHED")
	if program == "" {
		return "", nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address := listener.Addr().String()
	listener.Close()
	parent, err := os.MkdirTemp("", "lethe-dev-")
	if err != nil {
		return "", err
	}
	folder := filepath.Join(parent, "vault")
	daemon := exec.Command(program, "dev", "--dir", folder, "--listen", address)
	var log bytes.Buffer
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		return "", err
	}
	stopVault = func() {
		_ = daemon.Process.Signal(os.Interrupt)
		_ = daemon.Wait()
		os.RemoveAll(parent)
	}
	return folder, awaitVault(folder)
})

var stopVault = func() {}

func awaitVault(folder string) error {
	end := time.Now().Add(30 * time.Second)
	for {
		vault, err := client.Open(filepath.Join(folder, "client-application.toml"), client.Options{})
		if err == nil {
			for _, err = range vault.Tenants(context.Background()) {
				break
			}
			vault.Close()
		}
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	stopVault()
	os.Exit(code)
}

// support is the configuration of a caller in the role `support`, who is let in within seconds; made where there is
// none. It skips the test without LETHECTL, the path of that program.
func support(t *testing.T, folder string) string {
	t.Helper()
	const uri = "spiffe://dev.lethe/support"
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(folder, "client-support.toml")
	program := os.Getenv("LETHECTL")
	if program == "" {
		t.Skip("not run: LETHECTL is not set, so there is nobody whose reads are masked")
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	check(exec.Command(program, "pki", "issue", "--dir", filepath.Join(folder, "pki"), "--uri", uri, "--out", "support",
		"--force").Run())
	daemon := filepath.Join(folder, "lethed.toml")
	text, err := os.ReadFile(daemon)
	check(err)
	if !bytes.Contains(text, []byte(uri)) {
		text = fmt.Appendf(text, "\n[[identity]]\nuri = %q\nrole = \"support\"\ntenants = [\"*\"]\n", uri)
		check(os.WriteFile(daemon+".new", text, 0o600))
		check(os.Rename(daemon+".new", daemon))
	}
	text, err = os.ReadFile(filepath.Join(folder, "client-application.toml"))
	check(err)
	text = bytes.ReplaceAll(text, []byte("/application."), []byte("/support."))
	check(os.WriteFile(path, text, 0o600))
	return path
}

// devFolder skips the test where there is no vault.
func devFolder(t *testing.T) string {
	t.Helper()
	folder, err := devVault()
	if err != nil {
		t.Fatal(err)
	}
	if folder == "" {
		t.Skip("not run: neither LETHE_DEV_DIR nor LETHED is set")
	}
	return folder
}
