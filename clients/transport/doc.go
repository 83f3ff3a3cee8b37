// Package transport is the HTTP layer that the clients share: keys that do not leak, a limit on concurrent requests, a deadline per
// phase, bounded answers, and retries with exponential back-off on failures that may pass.
//
// What is retried: 408, 429 and 503 (honouring Retry-After, capped), failed connections, broken or unreadable answers, 502 and 504.
// When the attempts are used up, the first three stay transient; for the others the endpoint is to blame, and the error says so.
// Redirects are never followed: they could carry the key to another host.
package transport
