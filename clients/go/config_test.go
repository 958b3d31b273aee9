package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const good = "# comment\nendpoint = \"https://127.0.0.1:8443\" # here\nca = 'ca.pem'\r\ncert = \"c.pem\"\nkey = \"/k/c.key\"\n"

func TestRelativePathsStartAtTheFile(t *testing.T) {
	config, err := ParseConfig(good, "/etc/lethe/client.toml")
	check(t, err)
	want := Config{
		Endpoint: "https://127.0.0.1:8443", CA: "/etc/lethe/ca.pem", Cert: "/etc/lethe/c.pem", Key: "/k/c.key",
	}
	if config != want {
		t.Fatalf("%+v", config)
	}
}

func TestTheServersNameIsTheHostUnlessGiven(t *testing.T) {
	for text, want := range map[string]string{
		good: "127.0.0.1",
		strings.Replace(good, "127.0.0.1", "[::1]", 1): "::1",
		good + "server_name = \"vault.internal\"":      "vault.internal",
		good + "server_name = \"v\\u0061ult\"":         "vault",
	} {
		config, err := ParseConfig(text, "/x/client.toml")
		check(t, err)
		if name, _ := config.tlsName(); name != want {
			t.Errorf("%s instead of %s", name, want)
		}
	}
}

func TestEachMistakeOfAConfigurationIsNamed(t *testing.T) {
	for _, one := range []struct{ old, new, want string }{
		{"https", "http", "must start with https://"},
		{":8443", "", "names no port"},
		{":8443", ":84430", "not https://host:port"},
		{":8443", ":8443/path", "not https://host:port"},
		{"127.0.0.1", "user@127.0.0.1", "not https://host:port"},
		{"ca = ", "cacert = ", "line 3: unknown key cacert"},
		{"ca = 'ca.pem'", "", "ca is missing"},
		{"ca = 'ca.pem'", "ca = ''", "ca is missing"},
		{"cert = ", "ca = ", "line 4: ca is given twice"},
		{"cert = ", "[cert]", "line 4: not key"},
		{"\"c.pem\"", "c.pem", "line 4: cert is not a string"},
		{"\"c.pem\"", "\"c.pem", "line 4: cert is not closed"},
		{"\"c.pem\"", "\"c.pem\" x", "line 4: cert is followed by more"},
		{"\"c.pem\"", "\"c\\q\"", "line 4: cert has an unknown escape"},
		{"\"c.pem\"", "\"c\\ud800\"", "line 4: cert has an unknown escape"},
		{"\"c.pem\"", "\"c\x00\"", "line 4: cert holds a control character"},
		{"\"c.pem\"", "\"c\xff\"", "not UTF-8"},
		{"key = ", "server_name = \"a b\"\nkey = ", "server_name is neither"},
		{"key = ", "server_name = \"\"\nkey = ", "server_name is empty"},
	} {
		_, err := ParseConfig(strings.Replace(good, one.old, one.new, 1), "/x/client.toml")
		if err == nil || !strings.Contains(err.Error(), one.want) || !strings.Contains(err.Error(), "client.toml") {
			t.Errorf("%q for %q: %v", one.new, one.old, err)
		}
	}
}

func TestFilesAreBoundedAndAKeyThatAllCanReadIsRefused(t *testing.T) {
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "no.toml")); err == nil || !strings.Contains(err.Error(), "no.toml") {
		t.Error(err)
	}
	large := filepath.Join(t.TempDir(), "large.toml")
	check(t, os.WriteFile(large, []byte(strings.Repeat("#", 1<<20+1)), 0o600))
	if _, err := LoadConfig(large); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Error(err)
	}
	config := newPKI(t).config("127.0.0.1:1")
	if _, err := config.tls(); err != nil {
		t.Fatal(err)
	}
	check(t, os.Chmod(config.Key, 0o604))
	if _, err := config.tls(); err == nil || !strings.Contains(err.Error(), "every user can read it") {
		t.Error(err)
	}
	check(t, os.Chmod(config.Key, 0o640))
	check(t, os.WriteFile(config.Key, []byte("secret"), 0o600))
	if _, err := config.tls(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
