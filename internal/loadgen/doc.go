// Package loadgen puts load on a server of language models and measures what its users would feel: the time to the first token
// (TTFT), the time per token after it (TPOT, one figure per request), the gap between two arrivals of tokens (ITL) and the whole
// request (E2E).
//
// In the closed loop a fixed number of senders each send their next request when the last one has ended. In the open loop requests
// are due at the random times of a Poisson process, whatever has become of the earlier ones, and their latency counts from the time
// they were due: a server, or a generator, that falls behind cannot make its own delays invisible (coordinated omission).
package loadgen
