// Package faultproxy stands between a client and a server in tests and breaks what passes: statuses, connections, timing, the coding of
// bodies, the JSON inside, all that has been seen to go wrong between a batch client and an inference server. What is broken is decided
// by a seed and the number of the request, so that a run can be repeated.
//
// The class that a fault calls for is part of it. In the words of internal/fault: 429, 503 and 408 are transient; other 5xx, broken
// connections, deadlines, unreadable answers and answers that are not what was asked for are the endpoint's, which means that another
// attempt, here or elsewhere, may do it; 400, 404, 413 and 422 are the item's; 401 and 403 are fatal.
//
// The proxy runs inside the test, on a real loopback connection: resets are resets. Package fakefleet has servers to put behind it.
package faultproxy
