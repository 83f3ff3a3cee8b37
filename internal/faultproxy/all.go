package faultproxy

import (
	"net/http"
	"slices"
	"time"

	"recpie/internal/fault"
)

// All returns every fault, at full size: a body of 1 GiB, a header of 1 MiB, 1 byte/s, nesting of 100,000.
func All() []Fault {
	const gib = 1 << 30
	return []Fault{
		Status(http.StatusTooManyRequests, ""),
		Status(http.StatusTooManyRequests, "1"),
		retryDate(2 * time.Second),
		Status(http.StatusTooManyRequests, "1e300"),
		Status(http.StatusTooManyRequests, "Fri, 31 Dec 9999 23:59:59 GMT"),
		Status(http.StatusTooManyRequests, "soon"),
		Status(http.StatusServiceUnavailable, ""),
		Status(http.StatusRequestTimeout, ""),
		Status(http.StatusInternalServerError, ""),
		Status(http.StatusBadGateway, ""),
		Status(http.StatusGatewayTimeout, ""),
		Status(http.StatusBadRequest, ""),
		Status(http.StatusRequestEntityTooLarge, ""),
		Status(http.StatusUnprocessableEntity, ""),
		Status(http.StatusNotFound, ""),
		Status(http.StatusUnauthorized, ""),
		Status(http.StatusForbidden, ""),
		Refused(), ResetBeforeHeaders(), ResetAfterHeaders(), ResetMidBody(), HalfBody(), LengthTooLong(), LengthTooShort(), ChunkCut(), ChunkedEndMissing(),
		SlowHeaders(time.Second), SlowBody(time.Second), Silent(), SilentMidBody(), TLSStall(),
		Garbage(), HTML(), Truncated(), ByteOrderMark(), InvalidUTF8(), DuplicateKeys(), Nested(100_000),
		FewerChoices(), MoreChoices(), DuplicateIndex(), MissingIndex(), NullContent(), FinishMissing(), FinishAbort(), LogprobsShort(), OtherModel(), OtherRequest(),
		HugeBody(gib, false), HugeBody(gib, true), GzipBomb(gib >> 20), HugeHeader(1 << 20), Redirects(),
		Late(time.Hour), Twice(),
	}
}

// retryDate is a 429 that asks for a pause by a date.
func retryDate(pause time.Duration) Fault {
	f := Status(http.StatusTooManyRequests, "by date")
	f.do = func(x *exchange) {
		Status(http.StatusTooManyRequests, time.Now().Add(pause).UTC().Format(http.TimeFormat)).do(x)
	}
	return f
}

// Passing returns the faults of All that end by themselves and that another attempt can cure, for Rate. Those that would cost much and
// tell little there are left out: the large bodies, and the pauses that a server asks for.
func Passing() []Fault {
	return slices.DeleteFunc(All(), func(f Fault) bool {
		return f.Waits || f.Harmless || f.dear || (f.Want != fault.Transient && f.Want != fault.Endpoint)
	})
}
