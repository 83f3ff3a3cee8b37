// The generator of math/rand/v2.PCG (O'Neill 2014, PCG-DXSM 128/64), drawing many numbers at a time.
#ifndef RECPIE_TORCH_DROPOUT_H
#define RECPIE_TORCH_DROPOUT_H

#include <stdint.h>

// recpie_dropout multiplies n numbers by keep, or by 0 where the upper half of a draw is below limit. The state moves on by n draws.
void recpie_dropout(uint64_t *hi, uint64_t *lo, float *x, int64_t n, uint32_t limit, float keep);
#endif
