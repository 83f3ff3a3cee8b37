// How C++ hands its errors to Go: through *err, as shim.h says.
#ifndef RECPIE_TORCH_GUARD_H
#define RECPIE_TORCH_GUARD_H

#include <ATen/ATen.h>
#include <cstring>
#include <exception>

#define GUARD(...)                                                                                                     \
  try {                                                                                                                \
    __VA_ARGS__                                                                                                        \
  } catch (const std::exception &e) {                                                                                  \
    *err = strdup(e.what());                                                                                           \
  } catch (...) {                                                                                                      \
    *err = strdup("unknown C++ exception");                                                                            \
  }

static inline at::Tensor &tensor(void *t) { return *static_cast<at::Tensor *>(t); }

#endif
