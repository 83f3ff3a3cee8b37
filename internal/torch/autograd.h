// What the operations with a gradient of their own have in common.
#ifndef RECPIE_TORCH_AUTOGRAD_H
#define RECPIE_TORCH_AUTOGRAD_H

#include "fused.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <cstring>
#include <exception>
#include <torch/csrc/autograd/custom_function.h>
#include <vector>

#define GUARD(...)                                                                                                     \
  try {                                                                                                                \
    __VA_ARGS__                                                                                                        \
  } catch (const std::exception &e) {                                                                                  \
    *err = strdup(e.what());                                                                                           \
  } catch (...) {                                                                                                      \
    *err = strdup("unknown C++ exception");                                                                            \
  }

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

static inline at::Tensor &tensor(void *t) { return *static_cast<at::Tensor *>(t); }

#endif
