#include "dropout.h"

typedef unsigned __int128 u128;

static inline u128 wide(uint64_t hi, uint64_t lo) { return (u128)hi << 64 | lo; }

static inline uint32_t output(u128 s) {
  uint64_t hi = s >> 64;
  hi ^= hi >> 32;
  hi *= 0xda942042e4dd58b5u;
  hi ^= hi >> 48;
  hi *= (uint64_t)s | 1;
  return hi >> 32;
}

// Four states go on side by side, each by four draws at a time: one multiplication need not wait for the one before.
void recpie_dropout(uint64_t *hi, uint64_t *lo, float *x, int64_t n, uint32_t limit, float keep) {
  const u128 mul = wide(2549297995355413924u, 4865540595714422341u), inc = wide(6364136223846793005u, 1442695040888963407u);
  const u128 mul2 = mul * mul, inc2 = mul * inc + inc, mul4 = mul2 * mul2, inc4 = mul2 * inc2 + inc2;
  u128 last = wide(*hi, *lo);
  u128 a = last * mul + inc, b = a * mul + inc, c = b * mul + inc, d = c * mul + inc;
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    x[i] *= output(a) >= limit ? keep : 0;
    x[i + 1] *= output(b) >= limit ? keep : 0;
    x[i + 2] *= output(c) >= limit ? keep : 0;
    x[i + 3] *= output(d) >= limit ? keep : 0;
    last = d;
    a = a * mul4 + inc4;
    b = b * mul4 + inc4;
    c = c * mul4 + inc4;
    d = d * mul4 + inc4;
  }
  for (; i < n; i++) {
    last = last * mul + inc;
    x[i] *= output(last) >= limit ? keep : 0;
  }
  *hi = last >> 64;
  *lo = (uint64_t)last;
}
