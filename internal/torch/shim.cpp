// The calls that gotch's wrapper has no right form of.
#include "guard.h"
#include "shim.h"

#include <ATen/Parallel.h>
#include <c10/util/Logging.h>

// libtorch puts a symbolised C++ backtrace into every error, which takes it milliseconds and which we cut off: none is
// made. The fetcher is set when the library is loaded, before any scope runs.
static const bool no_backtrace = (c10::SetStackTraceFetcher([]() { return std::string(); }), true);

extern "C" {

// gotch passes an absent mask as an engaged optional that holds an undefined tensor, which libtorch
// refuses; only a real nullopt reaches the fused kernel.
void *recpie_attention(void *q, void *k, void *v, int causal, double scale, int has_scale, char **err) {
  GUARD(c10::optional<double> s = c10::nullopt; if (has_scale) s = scale;
        return new at::Tensor(at::scaled_dot_product_attention(tensor(q), tensor(k), tensor(v), c10::nullopt, 0.0,
                                                               causal != 0, s));)
  return nullptr;
}

// gotch's Go function for gelu leaks the name of the approximation at every call.
void *recpie_gelu(void *x, int tanh_form, char **err) {
  GUARD(return new at::Tensor(at::gelu(tensor(x), tanh_form ? "tanh" : "none"));)
  return nullptr;
}

// recpie_grad returns the data of param's gradient, made contiguous, or NULL when there is none.
float *recpie_grad(void *param, int64_t *numel, char **err) {
  GUARD(at::Tensor &g = tensor(param).mutable_grad(); if (!g.defined()) return nullptr;
        if (!g.is_contiguous()) g = g.contiguous(); *numel = g.numel(); return g.data_ptr<float>();)
  return nullptr;
}

// recpie_reset_grad drops the gradient, so that the next backward pass stores its own buffer instead of adding.
void recpie_reset_grad(void *param, char **err) { GUARD(tensor(param).mutable_grad().reset();) }

// OpenMP keeps the number of threads per OS thread: it is set again where the calling thread has another.
void recpie_thread_setup(int threads) {
  static thread_local int applied = 0;
  if (threads > 0 && applied != threads) {
    try {
      at::set_num_threads(threads);
      applied = threads;
    } catch (...) { // only a count below 1 is refused, and the caller has ruled that out
    }
  }
}
}
