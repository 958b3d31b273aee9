package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lethe.example/client/internal/gen/lethev1"
)

// What an error of the vault can be, for [errors.Is].
var (
	// ErrNotFound: it never was, or not under this name; or it was erased (then it is ErrErased too).
	ErrNotFound = errors.New("not found")
	// ErrErased: it was there; its keys are destroyed.
	ErrErased = errors.New("erased")
	// ErrInvalidArgument: the request is wrong; [Error.Violations] says where.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrAlreadyExists: there is one already; a duplicate value (ErrDuplicate) is this too.
	ErrAlreadyExists = errors.New("already exists")
	// ErrDuplicate: another record has this value in a unique field; [Error.Field] and [Error.Resource] say which.
	ErrDuplicate = errors.New("duplicate")
	// ErrStale: the record changed since this etag was given.
	ErrStale = errors.New("stale")
	// ErrRequestIDReused: the request id was used for another call.
	ErrRequestIDReused = errors.New("request id reused")
	// ErrChangesMissed: a watch fell behind: list what there is, and watch anew.
	ErrChangesMissed = errors.New("changes missed")
	// ErrAborted: it met another change and was given up; the three above are this too.
	ErrAborted = errors.New("aborted")
	// ErrPermissionDenied: the identity has no right to this.
	ErrPermissionDenied = errors.New("permission denied")
	// ErrUnauthenticated: the client's certificate is not, or no longer, accepted.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrPrecondition: the state does not allow it; [Error.Violations] may say what.
	ErrPrecondition = errors.New("failed precondition")
	// ErrPostponed: a legal hold keeps what was to be erased; it is erased by itself when the last hold ends.
	// [Error.Postponed] names it, and what no hold keeps is erased: [Error.Receipts] has the evidence.
	ErrPostponed = errors.New("postponed")
	// ErrExhausted: a limit of the vault, such as a full disk, or a message above 4 MiB.
	ErrExhausted = errors.New("exhausted")
	// ErrUnavailable: the vault is not reached, is stopping or has stopped.
	ErrUnavailable = errors.New("unavailable")
	// ErrDeadline: the call took longer than it may.
	ErrDeadline = errors.New("deadline exceeded")
	// ErrCanceled: the caller gave the call up.
	ErrCanceled = errors.New("canceled")
	// ErrDamaged: a row does not authenticate; others are served.
	ErrDamaged = errors.New("damaged")
)

// Violation is one fault of a request. It never holds a value.
type Violation struct {
	// Field is a path such as `record.fields.phone`.
	Field       string
	Description string
}

// Error is why a call failed. Neither it nor its text holds a value of a record.
type Error struct {
	// Code is gRPC's.
	Code codes.Code
	// Reason is the vault's own, such as ERASED; empty if the vault did not say.
	Reason string
	// Message is for people.
	Message string
	// Violations are set with ErrInvalidArgument and ErrPrecondition.
	Violations []Violation
	// Field is, with ErrDuplicate, the unique field.
	Field string
	// Resource is, with ErrDuplicate, the name of the record that has the value.
	Resource string
	// Part is, in a batch, which part failed, such as `requests[3]`.
	Part string
	// Postponed are, with ErrPostponed, the names of what waits.
	Postponed []string
	// Receipts are, with ErrPostponed, the evidence of what was erased by the same call.
	Receipts []*Receipt
	// kinds are the Err values that this error is.
	kinds []error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("lethe: %s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("lethe: %s (%s): %s", e.Code, e.Reason, e.Message)
}

// Is says whether the error is one of this package's Err values.
func (e *Error) Is(target error) bool {
	for _, kind := range e.kinds {
		if kind == target {
			return true
		}
	}
	return false
}

// domain is ErrorInfo.domain of all that the vault says itself.
const domain = "lethe"

// asError makes an [*Error] of what gRPC returned.
func asError(err error) error {
	if err == nil {
		return nil
	}
	if own := (*Error)(nil); errors.As(err, &own) {
		return own
	}
	told := status.Convert(err)
	if errors.Is(err, context.DeadlineExceeded) {
		told = status.New(codes.DeadlineExceeded, "the call took too long")
	} else if errors.Is(err, context.Canceled) {
		told = status.New(codes.Canceled, "the caller gave up")
	}
	out := &Error{Code: told.Code(), Message: told.Message()}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				out.Reason = detail.GetReason()
				out.Field = detail.GetMetadata()["field"]
			}
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				out.Violations = append(out.Violations, Violation{v.GetField(), v.GetDescription()})
			}
		case *errdetails.PreconditionFailure:
			for _, v := range detail.GetViolations() {
				out.Violations = append(out.Violations, Violation{v.GetSubject(), v.GetDescription()})
			}
		case *errdetails.ResourceInfo:
			out.Resource = detail.GetResourceName()
		case *errdetails.RequestInfo:
			out.Part = detail.GetRequestId()
		}
	}
	out.kinds = kindsOf(out.Code, out.Reason)
	return out
}

func kindsOf(code codes.Code, reason string) []error {
	switch code {
	case codes.NotFound:
		if reason == "ERASED" {
			return []error{ErrErased, ErrNotFound}
		}
		return []error{ErrNotFound}
	case codes.InvalidArgument:
		return []error{ErrInvalidArgument}
	case codes.AlreadyExists:
		if reason == "DUPLICATE_VALUE" {
			return []error{ErrDuplicate, ErrAlreadyExists}
		}
		return []error{ErrAlreadyExists}
	case codes.Aborted:
		switch reason {
		case "ETAG_MISMATCH":
			return []error{ErrStale, ErrAborted}
		case "REQUEST_ID_REUSED":
			return []error{ErrRequestIDReused, ErrAborted}
		case "CHANGES_MISSED":
			return []error{ErrChangesMissed, ErrAborted}
		}
		return []error{ErrAborted}
	case codes.PermissionDenied:
		return []error{ErrPermissionDenied}
	case codes.Unauthenticated:
		return []error{ErrUnauthenticated}
	case codes.FailedPrecondition:
		return []error{ErrPrecondition}
	case codes.ResourceExhausted:
		return []error{ErrExhausted}
	case codes.Unavailable:
		return []error{ErrUnavailable}
	case codes.DeadlineExceeded:
		return []error{ErrDeadline, context.DeadlineExceeded}
	case codes.Canceled:
		return []error{ErrCanceled, context.Canceled}
	case codes.DataLoss:
		return []error{ErrDamaged}
	}
	return nil
}

// invalid is a fault that the client finds before anything is sent.
func invalid(violations ...Violation) error {
	message := fmt.Sprintf("the request has %d violations", len(violations))
	if len(violations) == 1 {
		message = violations[0].Field + ": " + violations[0].Description
	}
	return &Error{
		Code:       codes.InvalidArgument,
		Message:    message,
		Violations: violations,
		kinds:      kindsOf(codes.InvalidArgument, ""),
	}
}

// damaged says that records were left out because they do not open.
func damaged(names []string, count int) error {
	return &Error{
		Code:     codes.DataLoss,
		Reason:   "DAMAGED",
		Message:  fmt.Sprintf("%d records do not open, such as %s", count, strings.Join(names, ", ")),
		Resource: names[0],
		kinds:    kindsOf(codes.DataLoss, "DAMAGED"),
	}
}

// broken is an answer that does not follow the contract.
// postponed is nil if nothing waits.
func postponed(waiting []*lethev1.PostponedErasure, receipts []*Receipt) error {
	if len(waiting) == 0 {
		return nil
	}
	names := each(waiting, (*lethev1.PostponedErasure).GetName)
	message := fmt.Sprintf("%d erasures wait until legal holds end", len(names))
	return &Error{
		Code: codes.FailedPrecondition, Reason: "POSTPONED", Message: message,
		Postponed: names, Receipts: receipts, kinds: []error{ErrPostponed},
	}
}

func broken(what string) error {
	return &Error{Code: codes.Internal, Message: "the vault's answer " + what}
}
