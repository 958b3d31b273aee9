// Package client talks to a Lethe vault: an encrypted store of customer data that can prove it forgot.
//
// A [Client] reaches the vault over mutual TLS 1.3 only. Each call has a deadline. A call is made again only where
// that is safe: reads, and changes that carry a random request id. Errors are [*Error] values; test them with
// [errors.Is] and the Err values of this package. Nothing that this package prints holds a value of a record.
package client
