// Loops in float32 on the CPU for generation, and for the operations of fused.cpp: what would be many small operations of libtorch per layer. Compiled with
// -O3 -ffast-math for every instruction set; the processor's is chosen at each call.
#include "kernels.h"

#include <stddef.h>
#include <sys/mman.h>

// Memory of its own from the system: it is taken page by page as it is written to, and its zeros cost nothing.
float *recpie_map(int64_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

void recpie_unmap(float *mem, int64_t bytes) { munmap(mem, bytes); }

void paged_write_plain(const recpie_paged_kv *kv, int layer, float *qkv, int64_t stride, int heads, const float *cos, const float *sin, const int64_t *slots, int tokens);
void paged_write_avx2(const recpie_paged_kv *kv, int layer, float *qkv, int64_t stride, int heads, const float *cos, const float *sin, const int64_t *slots, int tokens);
void paged_attend_plain(const recpie_paged_kv *kv, int layer, const float *q, int64_t stride, float *out, int heads, const int32_t *rows, const int32_t *tables, const int64_t *at, const int32_t *lengths, int queries, float *scores);
void paged_attend_avx2(const recpie_paged_kv *kv, int layer, const float *q, int64_t stride, float *out, int heads, const int32_t *rows, const int32_t *tables, const int64_t *at, const int32_t *lengths, int queries, float *scores);
void rms_norm_plain(const float *x, const float *w, float *out, int64_t rows, int64_t width, float eps);
void rms_norm_avx2(const float *x, const float *w, float *out, int64_t rows, int64_t width, float eps);
void silu_mul_plain(const float *x, float *out, int64_t rows, int64_t width);
void silu_mul_avx2(const float *x, float *out, int64_t rows, int64_t width);
void rms_norm_grad_plain(const float *x, const float *w, const float *grad, float *out, int64_t rows, int64_t width, float eps);
void rms_norm_grad_avx2(const float *x, const float *w, const float *grad, float *out, int64_t rows, int64_t width, float eps);
void silu_mul_grad_plain(const float *x, const float *grad, float *out, int64_t rows, int64_t width);
void silu_mul_grad_avx2(const float *x, const float *grad, float *out, int64_t rows, int64_t width);
void heads_plain(float *x, const float *cos, const float *sin, float *q, float *k, float *v, int64_t from, int64_t to, int64_t cols, int64_t heads, int64_t kv, int64_t d, int back);
void heads_avx2(float *x, const float *cos, const float *sin, float *q, float *k, float *v, int64_t from, int64_t to, int64_t cols, int64_t heads, int64_t kv, int64_t d, int back);
void choose_plain(const float *logits, int width, float inverse_temperature, const double *uniform, float *weights, int32_t *id, float *logprob);
void choose_avx2(const float *logits, int width, float inverse_temperature, const double *uniform, float *weights, int32_t *id, float *logprob);

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CHOICE(name, ...) (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? name##_avx2(__VA_ARGS__) : name##_plain(__VA_ARGS__))
#else
#define CHOICE(name, ...) name##_plain(__VA_ARGS__)
#endif

void recpie_paged_write(const recpie_paged_kv *kv, int layer, float *qkv, int64_t stride, int heads, const float *cos, const float *sin, const int64_t *slots, int tokens) {
  CHOICE(paged_write, kv, layer, qkv, stride, heads, cos, sin, slots, tokens);
}

void recpie_paged_attend(const recpie_paged_kv *kv, int layer, const float *q, int64_t stride, float *out, int heads, const int32_t *rows, const int32_t *tables, const int64_t *at, const int32_t *lengths, int queries, float *scores) {
  CHOICE(paged_attend, kv, layer, q, stride, out, heads, rows, tables, at, lengths, queries, scores);
}

void recpie_rms_norm(const float *x, const float *w, float *out, int64_t rows, int64_t width, float eps) {
  CHOICE(rms_norm, x, w, out, rows, width, eps);
}

void recpie_silu_mul(const float *x, float *out, int64_t rows, int64_t width) {
  CHOICE(silu_mul, x, out, rows, width);
}

void recpie_rms_norm_grad(const float *x, const float *w, const float *grad, float *out, int64_t rows, int64_t width, float eps) {
  CHOICE(rms_norm_grad, x, w, grad, out, rows, width, eps);
}

void recpie_silu_mul_grad(const float *x, const float *grad, float *out, int64_t rows, int64_t width) {
  CHOICE(silu_mul_grad, x, grad, out, rows, width);
}

void recpie_heads(float *x, const float *cos, const float *sin, float *q, float *k, float *v, int64_t from, int64_t to, int64_t cols, int64_t heads, int64_t kv, int64_t d, int back) {
  CHOICE(heads, x, cos, sin, q, k, v, from, to, cols, heads, kv, d, back);
}

void recpie_choose(const float *logits, int width, float inverse_temperature, const double *uniform, float *weights, int32_t *id, float *logprob) {
  CHOICE(choose, logits, width, inverse_temperature, uniform, weights, id, logprob);
}
