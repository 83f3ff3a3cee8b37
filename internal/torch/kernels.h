#ifndef RECPIE_KERNELS_H
#define RECPIE_KERNELS_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Positions of a page. Keys are held [head size, page], so that the scores of a page's positions are one vector.
#define RECPIE_PAGE 8

// Memory is [layers, kv_heads, pages, keys then values]: the pages of a prompt, mostly neighbours, are read in a row.
typedef struct {
  float *mem;
  int64_t pages, page_floats; // page_floats: keys and values of one page, layer and head
  int layers, kv_heads, head;
} recpie_paged_kv;

float *recpie_map(int64_t bytes);
void recpie_unmap(float *mem, int64_t bytes);

void recpie_paged_write(const recpie_paged_kv *kv, int layer, float *qkv, int64_t stride, int heads, const float *cos, const float *sin, const int64_t *slots, int tokens);
void recpie_paged_attend(const recpie_paged_kv *kv, int layer, const float *q, int64_t stride, float *out, int heads, const int32_t *rows, const int32_t *tables,
                         const int64_t *at, const int32_t *lengths, int queries, float *scores);
void recpie_rms_norm(const float *x, const float *w, float *out, int64_t rows, int64_t width, float eps);
void recpie_silu_mul(const float *x, float *out, int64_t rows, int64_t width);
void recpie_rms_norm_grad(const float *x, const float *w, const float *grad, float *out, int64_t rows, int64_t width, float eps);
void recpie_silu_mul_grad(const float *x, const float *grad, float *out, int64_t rows, int64_t width);
void recpie_heads(float *x, const float *cos, const float *sin, float *q, float *k, float *v, int64_t from, int64_t to, int64_t cols, int64_t heads, int64_t kv, int64_t d, int back);
void recpie_choose(const float *logits, int width, float inverse_temperature, const double *uniform, float *weights, int32_t *id, float *logprob);

#ifdef __cplusplus
}
#endif
#endif
