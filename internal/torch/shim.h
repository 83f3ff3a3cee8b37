// What gotch's C wrapper lacks or cannot do: see shim.cpp. Every function that can fail returns its
// error text through *err (malloc'd, for the caller to free) and leaves it NULL otherwise.
#ifndef RECPIE_TORCH_SHIM_H
#define RECPIE_TORCH_SHIM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void *recpie_attention(void *q, void *k, void *v, int causal, double scale, int has_scale, char **err);
void *recpie_gelu(void *x, int tanh_form, char **err);
float *recpie_grad(void *param, int64_t *numel, char **err);
void recpie_reset_grad(void *param, char **err);
void recpie_thread_setup(int threads);

#ifdef __cplusplus
}
#endif
#endif
