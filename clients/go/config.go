package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// fileBytesMax is the greatest size of a file that a client reads at start.
const fileBytesMax = 1 << 20

// Config says where the vault is and who the client is.
type Config struct {
	// Endpoint is https://host:port. There is no other way in.
	Endpoint string
	// CA is the PEM file with the certificates that the server's certificate may chain to.
	CA string
	// Cert is the PEM file with the client's certificate, and intermediates after it.
	Cert string
	// Key is the PEM file with the client's private key.
	Key string
	// ServerName is the name that the server's certificate must hold; the endpoint's host if empty.
	ServerName string
}

// LoadConfig reads a client-*.toml file.
func LoadConfig(path string) (Config, error) {
	text, err := readFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("client configuration %s: %w", path, err)
	}
	return ParseConfig(string(text), path)
}

// ParseConfig reads the text of a client-*.toml file. Relative paths in it start at the folder of path.
func ParseConfig(text, path string) (Config, error) {
	fail := func(err error) (Config, error) {
		return Config{}, fmt.Errorf("client configuration %s: %w", path, err)
	}
	keys, err := parseKeys(text, []string{"endpoint", "ca", "cert", "key", "server_name"})
	if err != nil {
		return fail(err)
	}
	for _, key := range []string{"endpoint", "ca", "cert", "key"} {
		if keys[key] == "" {
			return fail(fmt.Errorf("%s is missing", key))
		}
	}
	if name, given := keys["server_name"]; given && name == "" {
		return fail(errors.New("server_name is empty"))
	}
	place := func(file string) string {
		if filepath.IsAbs(file) {
			return file
		}
		return filepath.Join(filepath.Dir(path), file)
	}
	config := Config{
		Endpoint:   keys["endpoint"],
		CA:         place(keys["ca"]),
		Cert:       place(keys["cert"]),
		Key:        place(keys["key"]),
		ServerName: keys["server_name"],
	}
	if _, err := config.authority(); err != nil {
		return fail(err)
	}
	if _, err := config.tlsName(); err != nil {
		return fail(err)
	}
	return config, nil
}

// authority is the endpoint's host:port.
func (c Config) authority() (string, error) {
	rest, isHTTPS := strings.CutPrefix(c.Endpoint, "https://")
	if !isHTTPS {
		return "", errors.New("endpoint must start with https://, there is no other way in")
	}
	rest = strings.TrimRight(rest, "/")
	// url.Parse knows brackets and user parts; what it finds must be host and port and no more.
	parsed, err := url.Parse("https://" + rest)
	if err != nil || parsed.Host != rest || parsed.Hostname() == "" {
		return "", errors.New("endpoint is not https://host:port")
	}
	if parsed.Port() == "" {
		return "", errors.New("endpoint names no port")
	}
	if port, err := strconv.ParseUint(parsed.Port(), 10, 16); err != nil || port == 0 {
		return "", errors.New("endpoint is not https://host:port")
	}
	return rest, nil
}

var dnsName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?$`)

// tlsName is the name to check the server's certificate against.
func (c Config) tlsName() (string, error) {
	name := c.ServerName
	if name == "" {
		authority, err := c.authority()
		if err != nil {
			return "", err
		}
		if name, _, err = net.SplitHostPort(authority); err != nil {
			return "", errors.New("endpoint is not https://host:port")
		}
	}
	if net.ParseIP(name) == nil && (len(name) > 253 || !dnsName.MatchString(name)) {
		return "", errors.New("server_name is neither a DNS name nor an IP address")
	}
	return name, nil
}

// tls reads the files and makes the one TLS setting that there is: version 1.3, both sides with certificates.
func (c Config) tls() (*tls.Config, error) {
	name, err := c.tlsName()
	if err != nil {
		return nil, err
	}
	ca, err := readFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("ca %s: %w", c.CA, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("ca %s: holds no PEM certificate", c.CA)
	}
	cert, err := readFile(c.Cert)
	if err != nil {
		return nil, fmt.Errorf("cert %s: %w", c.Cert, err)
	}
	key, err := readFile(c.Key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", c.Key, err)
	}
	defer clear(key)
	// Group access is left to the machine's owner, as with mounted secrets.
	if info, err := os.Stat(c.Key); err != nil || info.Mode().Perm()&0o004 != 0 {
		return nil, fmt.Errorf("key %s: every user can read it; take that right away: chmod o-r", c.Key)
	}
	// The library's error may quote what it found in the files.
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cert %s and key %s: are not a PEM certificate and its PEM key", c.Cert, c.Key)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		ServerName:   name,
		RootCAs:      roots,
		Certificates: []tls.Certificate{pair},
	}, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close()
	bytes, err := io.ReadAll(io.LimitReader(file, fileBytesMax+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(bytes) > fileBytesMax {
		return nil, errors.New("is larger than 1 MiB")
	}
	return bytes, nil
}

// withoutPath drops the path from an error whose caller names it.
func withoutPath(err error) error {
	if inner := (*os.PathError)(nil); errors.As(err, &inner) {
		return inner.Err
	}
	return err
}
