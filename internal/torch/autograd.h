// What the operations with a gradient of their own have in common.
#ifndef RECPIE_TORCH_AUTOGRAD_H
#define RECPIE_TORCH_AUTOGRAD_H

#include "fused.h"
#include "guard.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <vector>

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

#endif
