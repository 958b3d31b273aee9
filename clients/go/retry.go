package client

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// attemptsMax are the calls in all, the first one included.
	attemptsMax = 4
	pauseFirst  = 100 * time.Millisecond
)

// repeat says whether a call may be made again.
type repeat bool

const (
	// safely: it changes nothing, or it carries a request id, by which the vault knows it again.
	safely repeat = true
	// never: after UNAVAILABLE nobody knows whether it took effect.
	never repeat = false
)

func retry[T any](ctx context.Context, again repeat, do func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		out, err := do()
		if err == nil || again == never || attempt == attemptsMax || !isPassing(err) || !wait(ctx, pause(attempt)) {
			return out, err
		}
	}
}

// isPassing says whether a later attempt may fare better.
func isPassing(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.ResourceExhausted
}

// pause doubles with each attempt. A random half of it keeps clients from coming back in step.
func pause(attempt int) time.Duration {
	half := pauseFirst << min(attempt-1, 6) / 2
	return half + rand.N(half)
}

// wait returns false at once if the deadline would pass meanwhile, so that the caller hears the vault's error.
func wait(ctx context.Context, pause time.Duration) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
