package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"lethe.example/client/internal/gen/adminv1"
	"lethe.example/client/internal/gen/lethev1"
)

const (
	// TimeoutDefault is how long a call may take if neither the context nor the options say.
	TimeoutDefault = 30 * time.Second
	// TimeoutMax is how long a call may take at most: the vault grants no more.
	TimeoutMax = 60 * time.Second
	// messageBytesMax is the vault's own bound of a message, either way.
	messageBytesMax = 4 << 20
)

// Options change what [Open] does by default.
type Options struct {
	// Timeout is the time of a call whose context has no deadline, all its attempts together, and the time that a
	// stream waits for the vault's next message. 0 means [TimeoutDefault]; more than [TimeoutMax] is refused.
	Timeout time.Duration
}

// Client is a connection to one vault. It may be used by many goroutines at once.
type Client struct {
	conn      *grpc.ClientConn
	timeout   time.Duration
	tenants   lethev1.TenantServiceClient
	schemas   lethev1.SchemaServiceClient
	retention lethev1.RetentionServiceClient
	subjects  lethev1.SubjectServiceClient
	records   lethev1.RecordServiceClient
	vault     adminv1.VaultServiceClient
	audit     adminv1.AuditServiceClient
}

// Open makes a client from a client-*.toml file. The connection is made at the first call.
func Open(path string, options Options) (*Client, error) {
	config, err := LoadConfig(path)
	if err != nil {
		return nil, err
	}
	return New(config, options)
}

// New makes a client. The connection is made at the first call.
func New(config Config, options Options) (*Client, error) {
	if options.Timeout == 0 {
		options.Timeout = TimeoutDefault
	}
	if options.Timeout < 0 || options.Timeout > TimeoutMax {
		return nil, fmt.Errorf("Timeout must be between 0 and %s", TimeoutMax)
	}
	authority, err := config.authority()
	if err != nil {
		return nil, err
	}
	tls, err := config.tls()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+authority,
		grpc.WithTransportCredentials(credentials.NewTLS(tls)),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax)),
		// The vault is called where the configuration says, not where the environment or DNS does, and what is made
		// again is decided in retry.go alone.
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		// A watch may be silent for long: a peer that is gone is noticed all the same.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	return &Client{
		conn:      conn,
		timeout:   options.Timeout,
		tenants:   lethev1.NewTenantServiceClient(conn),
		schemas:   lethev1.NewSchemaServiceClient(conn),
		retention: lethev1.NewRetentionServiceClient(conn),
		subjects:  lethev1.NewSubjectServiceClient(conn),
		records:   lethev1.NewRecordServiceClient(conn),
		vault:     adminv1.NewVaultServiceClient(conn),
		audit:     adminv1.NewAuditServiceClient(conn),
	}, nil
}

// Close ends the connection and every call on it.
func (c *Client) Close() error {
	return c.conn.Close()
}

// deadline bounds a call: by the context's deadline if it has one, else by the client's timeout, and by TimeoutMax.
func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := c.timeout
	if _, given := ctx.Deadline(); given {
		timeout = TimeoutMax
	}
	return context.WithTimeout(ctx, timeout)
}

// method is a unary call of the generated code.
type method[Q, A proto.Message] func(context.Context, Q, ...grpc.CallOption) (A, error)

// call makes a unary call within its deadline, again where `again` says that this is safe.
func call[Q, A proto.Message](ctx context.Context, c *Client, again repeat, do method[Q, A], request Q) (A, error) {
	var none A
	if err := checkSize(request); err != nil {
		return none, err
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	answer, err := retry(ctx, again, func() (A, error) { return do(ctx, request) })
	return answer, asError(err)
}

// checkSize refuses what the vault would not read, before it is sent.
func checkSize(request proto.Message) error {
	if size := proto.Size(request); size > messageBytesMax {
		return &Error{
			Code:    codes.ResourceExhausted,
			Message: fmt.Sprintf("the request has %d bytes, the vault takes at most %d", size, messageBytesMax),
			kinds:   kindsOf(codes.ResourceExhausted, ""),
		}
	}
	return nil
}

// NewRequestID returns a random UUIDv4, for request ids and import ids.
func NewRequestID() string {
	var id [16]byte
	// It does not fail: see crypto/rand.
	_, _ = rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

// requestIDOr is the caller's request id, or a new one. It is made once, before the first attempt.
func requestIDOr(given string) string {
	if given == "" {
		return NewRequestID()
	}
	return given
}
