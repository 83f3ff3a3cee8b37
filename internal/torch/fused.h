// Operations with a gradient of their own: see fused.cpp, linear.cpp and attend.cpp. Each returns its error text through *err, as shim.h says. What fused.cpp takes is
// contiguous float32 on the CPU.
#ifndef RECPIE_TORCH_FUSED_H
#define RECPIE_TORCH_FUSED_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void *recpie_rms_norm_op(void *x, void *w, double eps, char **err);
void *recpie_silu_mul_op(void *x, char **err);
void *recpie_linear_op(void *x, void *w, void *b, char **err);
void *recpie_lora_linear_op(void *x, void *w, void *b, void *a, void *u, double scale, const int64_t *from, const int64_t *n, int parts, char **err);
int recpie_heads_op(void *x, void *cos, void *sin, int64_t heads, int64_t kv, void **out, char **err);
void *recpie_rows_op(void *table, const int64_t *at, int64_t n, char **err);
void *recpie_history_rows_op(void *products, void *rating, void *position, const int64_t *ratings, const int64_t *places, const int64_t *starts, int64_t n,
                             char **err);
void *recpie_history_attention_op(void *q, void *x, void *wk, void *wv, void *bv, const int64_t *starts, int64_t heads, char **err);
int recpie_token_attention_op(void *x, void *const *w, int64_t heads, void **out, char **err);
void *recpie_add_norm_op(void *x, void *y, void *w, void *b, double eps, char **err);
void *recpie_linear_relu_op(void *x, void *w, void *b, void *mask, char **err);

#ifdef __cplusplus
}
#endif
#endif
