// Loops of the recommender's attention layers, in float32 on the CPU, compiled for every instruction set as kernels.c says. All matrices are
// row-major; from and to bound the rows (or columns) that a call works on, so that threads can share them out.
#ifndef RECPIE_TORCH_ATTEND_H
#define RECPIE_TORCH_ATTEND_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A history of k is the rows starts[k] … starts[k+1]−1 of x [rows, d].
void recpie_history_rows(const float *products, const int64_t *ratings, const float *rating, const float *position, const int64_t *starts,
                         float *x, int64_t from, int64_t to, int64_t d);
void recpie_history_attend(const float *x, const float *u, const int64_t *starts, float *alpha, float *mix, int64_t from, int64_t to,
                           int64_t heads, int64_t d);
void recpie_history_attend_grad(const float *x, const float *u, const int64_t *starts, const float *alpha, const float *dmix, float *dx, float *du,
                                int64_t from, int64_t to, int64_t heads, int64_t d);

// qkv [batch, tokens, 3·d] holds queries, keys and values beside each other; alpha [batch, heads, tokens, tokens]; out [batch, tokens, d].
void recpie_token_attend(const float *qkv, float *alpha, float *out, int64_t from, int64_t to, int64_t tokens, int64_t heads, int64_t d);
// dalpha may be NULL.
void recpie_token_attend_grad(const float *qkv, const float *alpha, const float *dout, const float *dalpha, float *dqkv, int64_t from, int64_t to,
                              int64_t tokens, int64_t heads, int64_t d);

// norm [rows, d] is (x + y − mean)·rstd, out is norm·w + b; y may be NULL. The gradient adds to dw and db.
void recpie_layer_norm(const float *x, const float *y, const float *w, const float *b, float eps, float *norm, float *rstd, float *out,
                       int64_t from, int64_t to, int64_t d);
void recpie_layer_norm_grad(const float *g, const float *norm, const float *rstd, const float *w, float *dx, float *dw, float *db, int64_t from,
                            int64_t to, int64_t d);

// dst[at[r]] += src[r] for all rows of src, in the columns from … to−1.
void recpie_scatter_add(const float *src, const int64_t *at, int64_t rows, float *dst, int64_t from, int64_t to, int64_t d);
// dst[r] = src[at[r]].
void recpie_gather(const float *src, const int64_t *at, float *dst, int64_t from, int64_t to, int64_t d);
// y = max(y, 0)·mask; mask may be NULL. Its gradient: g where y > 0, times mask.
void recpie_relu_mask(float *y, const float *mask, int64_t from, int64_t to);
void recpie_relu_mask_grad(const float *y, const float *mask, const float *g, float *out, int64_t from, int64_t to);

#ifdef __cplusplus
}
#endif
#endif
