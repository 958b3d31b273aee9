package client_test

import (
	"bytes"
	"context"
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
