// The loops themselves, compiled once for every instruction set that kernels.c chooses from: KERNEL(name) is a function's name there.
#include "kernels.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { P = RECPIE_PAGE, BLOCK = 32, AHEAD = 8 };

// Eight floats as one value, at any address.
typedef float v8 __attribute__((vector_size(32), aligned(4)));
typedef int32_t i8 __attribute__((vector_size(32), aligned(4)));
INLINE v8 load8(const float *p) { return *(const v8 *)p; }
INLINE void store8(float *p, v8 x) { *(v8 *)p = x; }
INLINE v8 all8(float x) { return (v8){x, x, x, x, x, x, x, x}; }

INLINE v8 choose8(i8 yes, v8 a, v8 b) { return (v8)((yes & (i8)a) | (~yes & (i8)b)); }
INLINE v8 most8(v8 a, v8 b) { return choose8(a > b, a, b); }

// exp with a relative error below 2e-7, in a form that compilers turn into vector code.
INLINE float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  float t = x * 1.44269504f;
  int32_t i = (int32_t)(t + (t < 0 ? -0.5f : 0.5f));
  float f = (x - (float)i * 0.693359375f) + (float)i * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * f + 1.3981999507e-3f;
  y = y * f + 8.3334519073e-3f;
  y = y * f + 4.1665795894e-2f;
  y = y * f + 1.6666665459e-1f;
  y = y * f + 5.0000001201e-1f;
  y = y * f * f + f + 1.0f;
  union {
    int32_t i;
    float f;
  } two = {.i = (i + 127) << 23};
  return y * two.f;
}

INLINE v8 fast_exp8(v8 x) {
  x = most8(x, all8(-87.0f));
  x = choose8(x < 88.0f, x, all8(88.0f));
  v8 t = x * 1.44269504f;
  i8 i = __builtin_convertvector(t + choose8(t < 0.0f, all8(-0.5f), all8(0.5f)), i8);
  v8 n = __builtin_convertvector(i, v8);
  v8 f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  v8 y = all8(1.9875691500e-4f);
  y = y * f + 1.3981999507e-3f;
  y = y * f + 8.3334519073e-3f;
  y = y * f + 4.1665795894e-2f;
  y = y * f + 1.6666665459e-1f;
  y = y * f + 5.0000001201e-1f;
  y = y * f * f + f + 1.0f;
  return y * (v8)((i + 127) << 23);
}

INLINE float sum8(v8 x) { return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7])); }
INLINE float max8(v8 x) {
  float m = x[0];
  for (int i = 1; i < 8; i++) m = x[i] > m ? x[i] : m;
  return m;
}

// recpie_paged_write rotates queries and keys of qkv [tokens, (heads + 2·kv_heads)·head] by the angles (cos and sin [tokens, head/2], or
// NULL) and puts keys and values into their slots (page·P + position).
void KERNEL(paged_write)(const recpie_paged_kv *kv, int layer, float *qkv, int64_t stride, int heads, const float *cos, const float *sin,
                               const int64_t *slots, int tokens) {
  const int d = kv->head, half = d / 2, k0 = heads * d, v0 = k0 + kv->kv_heads * d;
  for (int t = 0; t < tokens; t++) {
    float *row = qkv + t * stride;
    if (cos) {
      const float *c = cos + (int64_t)t * half, *s = sin + (int64_t)t * half;
      for (int h = 0; h < heads + kv->kv_heads; h++) {
        float *a = row + h * d, *b = a + half;
        for (int j = 0; j < half; j++) {
          float x = a[j], y = b[j];
          a[j] = x * c[j] - y * s[j];
          b[j] = y * c[j] + x * s[j];
        }
      }
    }
    const int64_t page = slots[t] / P;
    const int at = (int)(slots[t] % P);
    for (int h = 0; h < kv->kv_heads; h++) {
      float *keys = kv->mem + (((int64_t)layer * kv->kv_heads + h) * kv->pages + page) * kv->page_floats, *values = keys + P * d;
      for (int j = 0; j < d; j++) keys[j * P + at] = row[k0 + h * d + j];
      memcpy(values + (int64_t)at * d, row + v0 + h * d, sizeof(float) * d);
    }
  }
}

// scores of one query against n pages of keys; returns the largest of the first len.
INLINE float page_scores(const float *keys, int64_t page_floats, int d, const float *q, float scale, const int32_t *table, int len, float *scores) {
  const int n = (len + P - 1) / P;
  int p = 0;
  for (; p + AHEAD <= n; p += AHEAD) { // several pages at a time: their sums do not wait for each other
    const float *k[AHEAD];
    for (int i = 0; i < AHEAD; i++) k[i] = keys + table[p + i] * page_floats;
    v8 a0 = all8(0), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
    for (int j = 0; j < d; j++) {
      const v8 x = all8(q[j]);
      const int at = j * P;
      a0 += x * load8(k[0] + at);
      a1 += x * load8(k[1] + at);
      a2 += x * load8(k[2] + at);
      a3 += x * load8(k[3] + at);
      a4 += x * load8(k[4] + at);
      a5 += x * load8(k[5] + at);
      a6 += x * load8(k[6] + at);
      a7 += x * load8(k[7] + at);
    }
    float *s = scores + p * P;
    store8(s, a0 * scale);
    store8(s + P, a1 * scale);
    store8(s + 2 * P, a2 * scale);
    store8(s + 3 * P, a3 * scale);
    store8(s + 4 * P, a4 * scale);
    store8(s + 5 * P, a5 * scale);
    store8(s + 6 * P, a6 * scale);
    store8(s + 7 * P, a7 * scale);
  }
  for (; p < n; p++) {
    const float *k = keys + table[p] * page_floats;
    v8 a = all8(0);
    for (int j = 0; j < d; j++) a += q[j] * load8(k + j * P);
    store8(scores + p * P, a * scale);
  }
  for (int i = len; i < n * P; i++) scores[i] = -1e30f; // the last page's places that hold nothing yet
  v8 top = load8(scores);
  for (p = 1; p < n; p++) {
    v8 x = load8(scores + p * P);
    top = most8(x, top);
  }
  return max8(top);
}

// the values of len positions, weighted, in BLOCK outputs from column from.
INLINE void weigh(const float *values, int64_t page_floats, int d, const int32_t *table, int len, const float *w, int from, int width, float *out) {
  if (width == BLOCK) {
    v8 a0 = all8(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    for (int p = 0; p * P < len; p++) {
      const float *v = values + table[p] * page_floats + from;
      const float *at = w + p * P;
      const int n = len - p * P < P ? len - p * P : P; // what lies beyond was never written, or by others: not even 0 times it counts
      for (int i = 0; i + 1 < n; i += 2, v += 2 * d) {
        const v8 x = all8(at[i]), y = all8(at[i + 1]);
        a0 += x * load8(v);
        a1 += x * load8(v + 8);
        a2 += x * load8(v + 16);
        a3 += x * load8(v + 24);
        b0 += y * load8(v + d);
        b1 += y * load8(v + d + 8);
        b2 += y * load8(v + d + 16);
        b3 += y * load8(v + d + 24);
      }
      if (n % 2) {
        const v8 x = all8(at[n - 1]);
        a0 += x * load8(v);
        a1 += x * load8(v + 8);
        a2 += x * load8(v + 16);
        a3 += x * load8(v + 24);
      }
    }
    a0 += b0, a1 += b1, a2 += b2, a3 += b3;
    store8(out, a0);
    store8(out + 8, a1);
    store8(out + 16, a2);
    store8(out + 24, a3);
    return;
  }
  for (int j = 0; j < width; j++) out[j] = 0;
  for (int i = 0; i < len; i++) {
    const float *v = values + table[i / P] * page_floats + (int64_t)(i % P) * d + from;
    for (int j = 0; j < width; j++) out[j] += w[i] * v[j];
  }
}

// recpie_paged_attend is softmax(q·kᵀ/sqrt(head))·v for some rows of q: query n is row rows[n], its keys are the first lengths[n] positions
// of the pages from tables[at[n]] on. out is [queries, heads·head]; scores is scratch for the longest.
void KERNEL(paged_attend)(const recpie_paged_kv *kv, int layer, const float *q, int64_t stride, float *out, int heads, const int32_t *rows,
                                const int32_t *tables, const int64_t *at, const int32_t *lengths, int queries, float *scores) {
  const int d = kv->head, group = heads / kv->kv_heads;
  const float scale = 1.0f / sqrtf((float)d);
  for (int k = 0; k < kv->kv_heads; k++) {
    const int64_t keys = ((int64_t)layer * kv->kv_heads + k) * kv->pages * kv->page_floats, values = keys + P * d;
    for (int n = 0; n < queries; n++) { // neighbours share pages: they are still in the cache
      const int32_t *table = tables + at[n];
      const int len = lengths[n], pages = (len + P - 1) / P;
      for (int g = 0; g < group; g++) {
        const int h = k * group + g;
        const float top = page_scores(kv->mem + keys, kv->page_floats, d, q + rows[n] * stride + h * d, scale, table, len, scores);
        v8 sums = all8(0);
        for (int p = 0; p < pages; p++) {
          v8 x = fast_exp8(load8(scores + p * P) - top);
          store8(scores + p * P, x);
          sums += x;
        }
        const v8 inv = all8(1.0f / sum8(sums));
        for (int p = 0; p < pages; p++) store8(scores + p * P, load8(scores + p * P) * inv);
        float *o = out + (int64_t)n * heads * d + h * d;
        for (int from = 0; from < d; from += BLOCK)
          weigh(kv->mem + values, kv->page_floats, d, table, len, scores, from, d - from < BLOCK ? d - from : BLOCK, o + from);
      }
    }
  }
}

// recpie_rms_norm is x/sqrt(mean(x²)+eps)·w for each row.
void KERNEL(rms_norm)(const float *x, const float *w, float *out, int64_t rows, int64_t width, float eps) {
  for (int64_t r = 0; r < rows; r++, x += width, out += width) {
    float sum = 0;
    for (int64_t j = 0; j < width; j++) sum += x[j] * x[j];
    const float inv = 1.0f / sqrtf(sum / (float)width + eps);
    for (int64_t j = 0; j < width; j++) out[j] = x[j] * inv * w[j];
  }
}

// recpie_silu_mul is silu(a)·b for rows that hold a and b, width numbers each.
void KERNEL(silu_mul)(const float *x, float *out, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; r++, x += 2 * width, out += width) {
    int64_t j = 0;
    for (; j + 8 <= width; j += 8) {
      const v8 a = load8(x + j);
      store8(out + j, a / (1.0f + fast_exp8(-a)) * load8(x + width + j));
    }
    for (; j < width; j++) out[j] = x[j] / (1.0f + fast_exp(-x[j])) * x[width + j];
  }
}

// recpie_rms_norm_grad is the gradient of recpie_rms_norm by x: with n = 1/sqrt(mean(x²)+eps) and h = grad·w, n·h − x·n³·mean(h·x).
void KERNEL(rms_norm_grad)(const float *x, const float *w, const float *grad, float *out, int64_t rows, int64_t width, float eps) {
  for (int64_t r = 0; r < rows; r++, x += width, grad += width, out += width) {
    float sum = 0, dot = 0;
    for (int64_t j = 0; j < width; j++) sum += x[j] * x[j], dot += grad[j] * w[j] * x[j];
    const float inv = 1.0f / sqrtf(sum / (float)width + eps), back = inv * inv * inv * dot / (float)width;
    for (int64_t j = 0; j < width; j++) out[j] = grad[j] * w[j] * inv - x[j] * back;
  }
}

// recpie_silu_mul_grad is the gradient of recpie_silu_mul by a and b: with s = 1/(1+exp(−a)), grad·b·s·(1+a·(1−s)) and grad·a·s.
void KERNEL(silu_mul_grad)(const float *x, const float *grad, float *out, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; r++, x += 2 * width, grad += width, out += 2 * width) {
    int64_t j = 0;
    for (; j + 8 <= width; j += 8) {
      const v8 a = load8(x + j), b = load8(x + width + j), g = load8(grad + j), s = 1.0f / (1.0f + fast_exp8(-a));
      store8(out + j, g * b * s * (1.0f + a * (1.0f - s)));
      store8(out + width + j, g * a * s);
    }
    for (; j < width; j++) {
      const float a = x[j], s = 1.0f / (1.0f + fast_exp(-a));
      out[j] = grad[j] * x[width + j] * s * (1.0f + a * (1.0f - s));
      out[width + j] = grad[j] * a * s;
    }
  }
}

// turn copies a head's vector, turned by the angles: element i of the first half with element i of the second.
INLINE void turn(float *to, const float *from, const float *cos, const float *sin, float sign, int64_t d) {
  if (!cos) {
    memcpy(to, from, d * sizeof(float));
    return;
  }
  const int64_t half = d / 2;
  for (int64_t j = 0; j < half; j++) {
    const float a = from[j], b = from[half + j], c = cos[j], s = sign * sin[j];
    to[j] = a * c - b * s;
    to[half + j] = b * c + a * s;
  }
}

// recpie_heads moves the positions from … to of x [rows·cols, (heads+2·kv)·d] to q [rows, heads, cols, d], k and v [rows, kv, cols, d], q and k
// turned by cos and sin [rows·cols, d/2] unless those are NULL; or everything back, turned back, which is the gradient.
void KERNEL(heads)(float *x, const float *cos, const float *sin, float *q, float *k, float *v, int64_t from, int64_t to, int64_t cols, int64_t heads, int64_t kv, int64_t d, int back) {
  for (int64_t p = from; p < to; p++) {
    const int64_t row = p / cols, col = p % cols;
    const float *c = cos ? cos + p * (d / 2) : NULL, *s = sin ? sin + p * (d / 2) : NULL;
    float *flat = x + p * (heads + 2 * kv) * d;
    for (int64_t h = 0; h < heads + 2 * kv; h++, flat += d) {
      float *apart;
      if (h < heads) {
        apart = q + ((row * heads + h) * cols + col) * d;
      } else if (h < heads + kv) {
        apart = k + ((row * kv + h - heads) * cols + col) * d;
      } else {
        apart = v + ((row * kv + h - heads - kv) * cols + col) * d;
      }
      const int still = h >= heads + kv;
      if (back) {
        turn(flat, apart, still ? NULL : c, s, -1.0f, d);
      } else {
        turn(apart, flat, still ? NULL : c, s, 1.0f, d);
      }
    }
  }
}

// recpie_choose draws an index from softmax(logits·inverse_temperature) by a number in [0, 1), or takes the likeliest when uniform is NULL, and
// returns its log probability at temperature 1. weights is scratch of the same width.
void KERNEL(choose)(const float *logits, int width, float inverse_temperature, const double *uniform, float *weights, int32_t *id, float *logprob) {
  enum { STEP = 64 };
  float top = logits[0];
  v8 tops = all8(top);
  int at = 0;
  for (; at + 8 <= width; at += 8) {
    const v8 x = load8(logits + at);
    tops = most8(x, tops);
  }
  top = max8(tops);
  for (; at < width; at++) top = logits[at] > top ? logits[at] : top;
  double plain = 0, total = 0;
  for (int from = 0; from < width; from += STEP) { // sums of a few numbers in float, their sum in double
    const int to = from + STEP < width ? from + STEP : width;
    float part = 0, warm = 0;
    if (to - from == STEP) {
      v8 p = all8(0), w = all8(0);
      for (int i = from; i < to; i += 8) {
        const v8 x = load8(logits + i) - top;
        const v8 e = fast_exp8(x);
        p += e;
        if (uniform) {
          const v8 y = inverse_temperature == 1 ? e : fast_exp8(x * inverse_temperature);
          store8(weights + i, y);
          w += y;
        }
      }
      part = sum8(p), warm = sum8(w);
    } else {
      for (int i = from; i < to; i++) {
        part += fast_exp(logits[i] - top);
        if (uniform) warm += weights[i] = fast_exp((logits[i] - top) * inverse_temperature);
      }
    }
    plain += part, total += warm;
  }
  int best = 0;
  if (uniform) {
    double u = *uniform * total;
    best = -1;
    int last = 0;
    for (int from = 0; from < width && best < 0; from += STEP) {
      const int to = from + STEP < width ? from + STEP : width;
      float sum = 0;
      for (int i = from; i < to; i++) sum += weights[i];
      if (u >= sum) {
        u -= sum;
        if (sum > 0) last = to - 1;
        continue;
      }
      for (int i = from; i < to; i++) {
        if (weights[i] <= 0) continue;
        last = i;
        u -= weights[i];
        if (u < 0) {
          best = i;
          break;
        }
      }
    }
    if (best < 0) best = last; // rounding used u up
  } else {
    while (best + 1 < width && logits[best] != top) best++;
  }
  *id = best;
  *logprob = (float)((double)(logits[best] - top) - log(plain));
}
