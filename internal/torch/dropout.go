package torch

/*
#include "dropout.h"
*/
import "C"

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// pcgHeader begins the binary form of a rand.PCG; sixteen bytes of state follow, high half first.
const pcgHeader = "pcg:"

// Dropout multiplies each number by 0 with probability p, else by 1/(1−p), by the draws of rng.Uint64 in order (upper halves). It does nothing
// for p = 0.
func Dropout(rng *rand.PCG, x []float32, p float64) {
	if p == 0 || len(x) == 0 {
		return
	}
	var state [len(pcgHeader) + 16]byte
	b, err := rng.AppendBinary(state[:0])
	if err != nil || len(b) != len(state) {
		return // rand.PCG's form is fixed by Go's compatibility promise
	}
	hi, lo := C.uint64_t(binary.BigEndian.Uint64(b[4:])), C.uint64_t(binary.BigEndian.Uint64(b[12:]))
	C.recpie_dropout(&hi, &lo, f32(x), C.int64_t(len(x)), C.uint32_t(p*math.MaxUint32), C.float(1/(1-p)))
	rng.Seed(uint64(hi), uint64(lo))
}
