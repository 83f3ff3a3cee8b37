#include "adam_kernel.h"

#include <math.h>

// Compiled for AVX2 too where the compiler can choose at run time.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

WIDE void recpie_adam(float *restrict w, const float *restrict g, float *restrict m, float *restrict v, int64_t n,
                      const recpie_adam_step *c) {
  const float b1 = c->beta1, b2 = c->beta2, a1 = 1 - c->beta1, a2 = 1 - c->beta2, eps = c->eps;
  const float step = c->step_size, root = c->root_scale, scale = c->grad_scale, shrink = c->shrink, l2 = c->l2;
  for (int64_t i = 0; i < n; i++) {
    const float x = w[i] * shrink;
    const float d = g[i] * scale + l2 * w[i];
    const float mi = b1 * m[i] + a1 * d;
    const float vi = b2 * v[i] + a2 * d * d;
    m[i] = mi;
    v[i] = vi;
    // -ffast-math takes roots by a reciprocal estimate, which makes NaN of a denormal: 1e-30 keeps clear of them, far below eps.
    w[i] = x - step * mi / (sqrtf(vi + 1e-30f) * root + eps);
  }
}

// Partial sums in float over short blocks, their sum in double: fast, and exact enough for a norm.
WIDE double recpie_square_sum(const float *g, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; i += 256) {
    const int64_t end = i + 256 < n ? i + 256 : n;
    float part = 0;
    for (int64_t k = i; k < end; k++) part += g[k] * g[k];
    total += part;
  }
  return total;
}

WIDE void recpie_add(float *restrict dst, const float *restrict src, int64_t n) {
  for (int64_t i = 0; i < n; i++) dst[i] += src[i];
}
