// Package pool spreads calls over any number of endpoints of mixed kinds. It knows endpoints, not requests: what a call does is a
// function over a client, and how it failed is read from the class of its error (internal/fault).
//
// An error of class item or fatal goes back to the caller at once and says nothing against the server. An endpoint error counts for
// the endpoint's circuit breaker and the call is tried elsewhere. A transient one (429, 503, 408) makes the endpoint rest for as long
// as it asked, may halve what is sent to it, and the call is tried elsewhere. When no endpoint is usable, calls wait for the first
// that recovers, until their own deadline.
//
// Calls of one key stick to one endpoint (rendezvous hashing, the same in every process), so that its prefix cache is hit. They
// spill to the next in their order when it has clearly more to do than the others, and come home afterwards.
//
// A client used in a pool makes one attempt per call (transport.Settings.Attempts: 1): the pool tries again, knowing the others.
package pool
