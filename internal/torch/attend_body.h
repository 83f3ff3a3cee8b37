// The loops of attend.h, compiled once for every instruction set: KERNEL(name) is a function's name there.
#include "attend.h"

#include <math.h>

#define INLINE static inline __attribute__((always_inline))

INLINE float dot(const float *restrict a, const float *restrict b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

INLINE void add_scaled(float *restrict y, const float *restrict x, float by, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] += by * x[i];
}

INLINE void zero(float *restrict y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = 0;
}

// softmax of n scores, stride apart, in place.
INLINE void softmax(float *a, int64_t n, int64_t stride) {
  float most = a[0], sum = 0;
  for (int64_t i = 1; i < n; i++) most = a[i * stride] > most ? a[i * stride] : most;
  for (int64_t i = 0; i < n; i++) sum += a[i * stride] = expf(a[i * stride] - most);
  for (int64_t i = 0; i < n; i++) a[i * stride] /= sum;
}

void KERNEL(history_rows)(const float *products, const int64_t *ratings, const float *rating, const float *position, const int64_t *starts,
                          float *x, int64_t from, int64_t to, int64_t d) {
  for (int64_t k = from; k < to; k++)
    for (int64_t r = starts[k]; r < starts[k + 1]; r++) {
      const float *restrict p = products + r * d, *restrict q = rating + ratings[r] * d, *restrict s = position + (r - starts[k]) * d;
      float *restrict y = x + r * d;
      for (int64_t i = 0; i < d; i++) y[i] = p[i] + q[i] + s[i];
    }
}

void KERNEL(history_attend)(const float *x, const float *u, const int64_t *starts, float *alpha, float *mix, int64_t from, int64_t to,
                            int64_t heads, int64_t d) {
  for (int64_t k = from; k < to; k++) {
    const int64_t first = starts[k], n = starts[k + 1] - first;
    for (int64_t r = first; r < first + n; r++)
      for (int64_t h = 0; h < heads; h++) alpha[r * heads + h] = dot(u + (k * heads + h) * d, x + r * d, d);
    for (int64_t h = 0; h < heads; h++) {
      float *m = mix + (k * heads + h) * d;
      softmax(alpha + first * heads + h, n, heads);
      zero(m, d);
      for (int64_t r = first; r < first + n; r++) add_scaled(m, x + r * d, alpha[r * heads + h], d);
    }
  }
}

void KERNEL(history_attend_grad)(const float *x, const float *u, const int64_t *starts, const float *alpha, const float *dmix, float *dx, float *du,
                                 int64_t from, int64_t to, int64_t heads, int64_t d) {
  for (int64_t k = from; k < to; k++) {
    const int64_t first = starts[k], end = starts[k + 1];
    for (int64_t r = first; r < end; r++) zero(dx + r * d, d);
    for (int64_t h = 0; h < heads; h++) {
      const float *uh = u + (k * heads + h) * d, *g = dmix + (k * heads + h) * d;
      float *duh = du + (k * heads + h) * d;
      float mean = 0;
      for (int64_t r = first; r < end; r++) mean += alpha[r * heads + h] * dot(g, x + r * d, d);
      zero(duh, d);
      for (int64_t r = first; r < end; r++) {
        const float a = alpha[r * heads + h], ds = a * (dot(g, x + r * d, d) - mean);
        add_scaled(dx + r * d, g, a, d);
        add_scaled(dx + r * d, uh, ds, d);
        add_scaled(duh, x + r * d, ds, d);
      }
    }
  }
}

void KERNEL(token_attend)(const float *qkv, float *alpha, float *out, int64_t from, int64_t to, int64_t tokens, int64_t heads, int64_t d) {
  const int64_t size = d / heads;
  const float scale = 1 / sqrtf((float)size);
  for (int64_t b = from; b < to; b++) {
    const float *base = qkv + b * tokens * 3 * d;
    for (int64_t h = 0; h < heads; h++)
      for (int64_t t = 0; t < tokens; t++) {
        const float *q = base + t * 3 * d + h * size;
        float *a = alpha + ((b * heads + h) * tokens + t) * tokens, *y = out + (b * tokens + t) * d + h * size;
        for (int64_t s = 0; s < tokens; s++) a[s] = scale * dot(q, base + s * 3 * d + d + h * size, size);
        softmax(a, tokens, 1);
        zero(y, size);
        for (int64_t s = 0; s < tokens; s++) add_scaled(y, base + s * 3 * d + 2 * d + h * size, a[s], size);
      }
  }
}

void KERNEL(token_attend_grad)(const float *qkv, const float *alpha, const float *dout, const float *dalpha, float *dqkv, int64_t from, int64_t to,
                               int64_t tokens, int64_t heads, int64_t d) {
  const int64_t size = d / heads;
  const float scale = 1 / sqrtf((float)size);
  for (int64_t b = from; b < to; b++) {
    const float *base = qkv + b * tokens * 3 * d;
    float *dbase = dqkv + b * tokens * 3 * d;
    zero(dbase, tokens * 3 * d);
    for (int64_t h = 0; h < heads; h++)
      for (int64_t t = 0; t < tokens; t++) {
        const int64_t at = ((b * heads + h) * tokens + t) * tokens;
        const float *a = alpha + at, *g = dout + (b * tokens + t) * d + h * size;
        const float *q = base + t * 3 * d + h * size;
        float *dq = dbase + t * 3 * d + h * size;
        float mean = 0;
        for (int64_t s = 0; s < tokens; s++) {
          float da = dot(g, base + s * 3 * d + 2 * d + h * size, size);
          if (dalpha) da += dalpha[at + s];
          mean += a[s] * da;
        }
        for (int64_t s = 0; s < tokens; s++) {
          const float *k = base + s * 3 * d + d + h * size, *v = k + d;
          float *dk = dbase + s * 3 * d + d + h * size, *dv = dk + d;
          float da = dot(g, v, size);
          if (dalpha) da += dalpha[at + s];
          const float ds = scale * a[s] * (da - mean);
          add_scaled(dv, g, a[s], size);
          add_scaled(dq, k, ds, size);
          add_scaled(dk, q, ds, size);
        }
      }
  }
}

void KERNEL(layer_norm)(const float *x, const float *y, const float *w, const float *b, float eps, float *norm, float *rstd, float *out,
                        int64_t from, int64_t to, int64_t d) {
  for (int64_t r = from; r < to; r++) {
    const float *restrict p = x + r * d;
    float *restrict n = norm + r * d, *restrict o = out + r * d;
    if (y) {
      const float *restrict q = y + r * d;
      for (int64_t i = 0; i < d; i++) n[i] = p[i] + q[i];
    } else {
      for (int64_t i = 0; i < d; i++) n[i] = p[i];
    }
    float sum = 0, square = 0;
    for (int64_t i = 0; i < d; i++) sum += n[i];
    const float mean = sum / d;
    for (int64_t i = 0; i < d; i++) {
      n[i] -= mean;
      square += n[i] * n[i];
    }
    const float s = 1 / sqrtf(square / d + eps);
    rstd[r] = s;
    for (int64_t i = 0; i < d; i++) {
      n[i] *= s;
      o[i] = n[i] * w[i] + b[i];
    }
  }
}

void KERNEL(layer_norm_grad)(const float *g, const float *norm, const float *rstd, const float *w, float *dx, float *dw, float *db, int64_t from,
                             int64_t to, int64_t d) {
  for (int64_t r = from; r < to; r++) {
    const float *restrict gr = g + r * d, *restrict n = norm + r * d;
    float *restrict o = dx + r * d, *restrict pw = dw, *restrict pb = db;
    float sum = 0, along = 0;
    for (int64_t i = 0; i < d; i++) {
      pw[i] += gr[i] * n[i];
      pb[i] += gr[i];
      const float v = gr[i] * w[i];
      sum += v;
      along += v * n[i];
    }
    sum /= d;
    along /= d;
    const float s = rstd[r];
    for (int64_t i = 0; i < d; i++) o[i] = s * (gr[i] * w[i] - sum - n[i] * along);
  }
}

void KERNEL(scatter_add)(const float *src, const int64_t *at, int64_t rows, float *dst, int64_t from, int64_t to, int64_t d) {
  for (int64_t r = 0; r < rows; r++) {
    const float *restrict x = src + r * d;
    float *restrict y = dst + at[r] * d;
    for (int64_t i = from; i < to; i++) y[i] += x[i];
  }
}

void KERNEL(gather)(const float *src, const int64_t *at, float *dst, int64_t from, int64_t to, int64_t d) {
  for (int64_t r = from; r < to; r++) {
    const float *restrict x = src + at[r] * d;
    float *restrict y = dst + r * d;
    for (int64_t i = 0; i < d; i++) y[i] = x[i];
  }
}

void KERNEL(relu_mask)(float *y, const float *mask, int64_t from, int64_t to) {
  if (!mask) {
    for (int64_t i = from; i < to; i++) y[i] = y[i] > 0 ? y[i] : 0;
    return;
  }
  for (int64_t i = from; i < to; i++) y[i] = (y[i] > 0 ? y[i] : 0) * mask[i];
}

void KERNEL(relu_mask_grad)(const float *y, const float *mask, const float *g, float *out, int64_t from, int64_t to) {
  if (!mask) {
    for (int64_t i = from; i < to; i++) out[i] = y[i] > 0 ? g[i] : 0;
    return;
  }
  for (int64_t i = from; i < to; i++) out[i] = y[i] > 0 ? g[i] * mask[i] : 0;
}
