// Operations with a gradient of their own: see fused.cpp and linear.cpp. Each returns its error text through *err, as shim.h says. What fused.cpp takes is
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

#ifdef __cplusplus
}
#endif
#endif
