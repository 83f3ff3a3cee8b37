// One Adam step over plain memory; see adam_kernel.c.
#ifndef RECPIE_ADAM_KERNEL_H
#define RECPIE_ADAM_KERNEL_H

#include <stdint.h>

// What one step needs besides the arrays. lr and the corrections belong to the step: step_size is lr/(1−β1^t),
// root_scale is 1/√(1−β2^t). grad_scale applies the clipped norm.
typedef struct {
  float beta1, beta2, eps, step_size, root_scale, grad_scale;
  float shrink;  // decoupled decay: weights are multiplied by this, 1−lr·decay
  float l2;      // L2 decay: this times the weight is added to the gradient
} recpie_adam_step;

void recpie_adam(float *w, const float *g, float *m, float *v, int64_t n, const recpie_adam_step *c);
double recpie_square_sum(const float *g, int64_t n);
void recpie_add(float *dst, const float *src, int64_t n);

#endif
