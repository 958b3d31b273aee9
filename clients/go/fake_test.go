package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"lethe.example/client/internal/gen/adminv1"
	"lethe.example/client/internal/gen/lethev1"
)

// pki is a certificate authority with a server and a client, made for one test.
type pki struct {
	folder string
	roots  *x509.CertPool
	server tls.Certificate
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	folder := t.TempDir()
	caKey, ca := newCert(t, "ca", nil, nil)
	serverKey, server := newCert(t, "server", ca, caKey)
	clientKey, client := newCert(t, "client", ca, caKey)
	writePEM(t, filepath.Join(folder, "ca.pem"), "CERTIFICATE", ca.Raw)
	writePEM(t, filepath.Join(folder, "client.pem"), "CERTIFICATE", client.Raw)
	der, err := x509.MarshalPKCS8PrivateKey(clientKey)
	check(t, err)
	writePEM(t, filepath.Join(folder, "client.key"), "PRIVATE KEY", der)
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return &pki{folder, roots, tls.Certificate{Certificate: [][]byte{server.Raw}, PrivateKey: serverKey}}
}

func newCert(t *testing.T, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{"vault.test"},
		IsCA:                  ca == nil,
		BasicConstraintsValid: true,
	}
	if ca == nil {
		ca, caKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, caKey)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return key, cert
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	check(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// tls is the server's setting: what the vault demands, up to the version given.
func (p *pki) tls(version uint16) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		MaxVersion:   version,
		Certificates: []tls.Certificate{p.server},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    p.roots,
		NextProtos:   []string{"h2"},
	}
}

func (p *pki) config(address string) Config {
	return Config{
		Endpoint: "https://" + address,
		CA:       filepath.Join(p.folder, "ca.pem"),
		Cert:     filepath.Join(p.folder, "client.pem"),
		Key:      filepath.Join(p.folder, "client.key"),
	}
}

// fake is a vault whose answers a test chooses.
type fake struct {
	lethev1.UnimplementedRecordServiceServer
	lethev1.UnimplementedRetentionServiceServer
	lethev1.UnimplementedTenantServiceServer
	adminv1.UnimplementedAuditServiceServer
	create    func(context.Context, *lethev1.CreateRecordRequest) (*lethev1.CreateRecordResponse, error)
	get       func(context.Context, *lethev1.GetRecordRequest) (*lethev1.GetRecordResponse, error)
	erase     func(context.Context, *lethev1.EraseRecordRequest) (*lethev1.EraseRecordResponse, error)
	tenant    func(context.Context, *lethev1.CreateTenantRequest) (*lethev1.CreateTenantResponse, error)
	export    func(*lethev1.ExportRecordsRequest, grpc.ServerStreamingServer[lethev1.ExportRecordsResponse]) error
	importing func(grpc.BidiStreamingServer[lethev1.ImportRecordsRequest, lethev1.ImportRecordsResponse]) error
	audit     func(*adminv1.ExportAuditEntriesRequest, grpc.ServerStreamingServer[adminv1.ExportAuditEntriesResponse]) error
	watch     func(*lethev1.WatchRecordsRequest, grpc.ServerStreamingServer[lethev1.WatchRecordsResponse]) error
	// retention answers every call of that service, by the name of its method.
	retention func(method string, request any) (any, error)
}

func (f *fake) CreateRecord(ctx context.Context, q *lethev1.CreateRecordRequest) (*lethev1.CreateRecordResponse, error) {
	return f.create(ctx, q)
}

func (f *fake) GetRecord(ctx context.Context, q *lethev1.GetRecordRequest) (*lethev1.GetRecordResponse, error) {
	return f.get(ctx, q)
}

func (f *fake) EraseRecord(ctx context.Context, q *lethev1.EraseRecordRequest) (*lethev1.EraseRecordResponse, error) {
	return f.erase(ctx, q)
}

func (f *fake) CreateTenant(ctx context.Context, q *lethev1.CreateTenantRequest) (*lethev1.CreateTenantResponse, error) {
	return f.tenant(ctx, q)
}

func (f *fake) ExportRecords(
	q *lethev1.ExportRecordsRequest, s grpc.ServerStreamingServer[lethev1.ExportRecordsResponse],
) error {
	return f.export(q, s)
}

func (f *fake) ImportRecords(
	s grpc.BidiStreamingServer[lethev1.ImportRecordsRequest, lethev1.ImportRecordsResponse],
) error {
	return f.importing(s)
}

func (f *fake) ExportAuditEntries(
	q *adminv1.ExportAuditEntriesRequest, s grpc.ServerStreamingServer[adminv1.ExportAuditEntriesResponse],
) error {
	return f.audit(q, s)
}

func (f *fake) WatchRecords(
	q *lethev1.WatchRecordsRequest, s grpc.ServerStreamingServer[lethev1.WatchRecordsResponse],
) error {
	return f.watch(q, s)
}

func (f *fake) intercept(
	ctx context.Context, request any, call *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	method, ours := strings.CutPrefix(call.FullMethod, "/lethe.v1.RetentionService/")
	if ours && f.retention != nil {
		return f.retention(method, request)
	}
	return handler(ctx, request)
}

// serve starts the fake and returns a client of it.
func (f *fake) serve(t *testing.T, options Options) *Client {
	t.Helper()
	keys := newPKI(t)
	return f.serveWith(t, options, keys, keys.tls(tls.VersionTLS13), func(c Config) Config { return c })
}

func (f *fake) serveWith(
	t *testing.T, options Options, keys *pki, setting *tls.Config, change func(Config) Config,
) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	server := grpc.NewServer(
		// What is too large must be refused by the client, not here.
		grpc.Creds(credentials.NewTLS(setting)), grpc.MaxRecvMsgSize(16<<20), grpc.UnaryInterceptor(f.intercept))
	lethev1.RegisterRecordServiceServer(server, f)
	lethev1.RegisterRetentionServiceServer(server, f)
	lethev1.RegisterTenantServiceServer(server, f)
	adminv1.RegisterAuditServiceServer(server, f)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	client, err := New(change(keys.config(listener.Addr().String())), options)
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// told is an error as the vault sends it.
func told(code codes.Code, reason string, more ...protoadapt.MessageV1) error {
	details := append([]protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason: reason, Domain: "lethe", Metadata: map[string]string{"field": "email"},
	}}, more...)
	out, err := status.New(code, "said the vault").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return out.Err()
}
