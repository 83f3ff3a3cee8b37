// Linear layers. MKL, which libtorch multiplies float32 matrices with, takes AVX2 loops on processors of other makers; oneDNN, which is in libtorch too,
// compiles AVX-512 ones on all that have it: 230 to 260 GFLOP/s on a core where MKL makes 107. It is reached without a copy as a convolution with a
// kernel of one element: a matrix of positions and channels is an image one pixel high, in the layout "channels last".
#include "autograd.h"

#include <ATen/Context.h>

namespace {

bool wide() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool is = at::hasMKLDNN() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return is && at::globalContext().userEnabledMkldnn();
#else
  return false;
#endif
}

// Below these sizes setting up a convolution costs more than its loops save.
constexpr int64_t least_rows = 64, least_work = 1 << 22;

// Every shape has loops compiled for it, which takes .3 ms, and a thousand are kept. Few rows are filled up, so that their shapes return.
int64_t rounded(int64_t rows) {
  const int64_t to = rows < 256 ? 32 : rows < 1024 ? 64 : rows < 4096 ? 128 : 1;
  return (rows + to - 1) / to * to;
}

at::Tensor filled_up(const at::Tensor &x) {
  const int64_t rows = x.size(0), all = rounded(rows);
  if (all == rows) return x.contiguous();
  at::Tensor y = at::empty({all, x.size(1)}, x.options().requires_grad(false));
  y.narrow(0, 0, rows).copy_(x);
  y.narrow(0, rows, all - rows).zero_();
  return y;
}

// product is x·wᵀ + b for matrices x [rows, in] and w [out, in]; b may be undefined.
at::Tensor product(const at::Tensor &x, const at::Tensor &w, const at::Tensor &b = at::Tensor()) {
  const int64_t rows = x.size(0), in = x.size(1), out = w.size(0);
  const bool large = rows >= least_rows && in > 1 && out > 1 && rows * in * out >= least_work;
  if (!large || x.scalar_type() != at::kFloat || !x.device().is_cpu() || !wide())
    return b.defined() ? at::addmm(b, x, w.t()) : at::mm(x, w.t());
  const at::Tensor image = filled_up(x).view({1, 1, rounded(rows), in}).permute({0, 3, 1, 2});
  const at::Tensor y = at::mkldnn_convolution(image, w.contiguous().view({out, in, 1, 1}),
                                              b.defined() ? c10::optional<at::Tensor>(b) : c10::nullopt, {0, 0}, {1, 1}, {1, 1}, 1);
  return y.permute({0, 2, 3, 1}).reshape({rounded(rows), out}).narrow(0, 0, rows);
}

at::Tensor as_matrix(const at::Tensor &x) { return x.reshape({-1, x.size(-1)}); }

std::vector<int64_t> with_last(const at::Tensor &x, int64_t last) {
  auto sizes = x.sizes().vec();
  sizes.back() = last;
  return sizes;
}

// optional is an operand that may be absent: autograd's functions take no undefined tensors, so that it is empty instead.
at::Tensor optional(void *t) { return t ? tensor(t) : at::empty({0}); }
at::Tensor present(const at::Tensor &t) { return t.numel() ? t : at::Tensor(); }

struct Linear : Function<Linear> {
  static at::Tensor forward(AutogradContext *ctx, at::Tensor x, at::Tensor w, at::Tensor b) {
    ctx->save_for_backward({x, w});
    return product(as_matrix(x), w, present(b)).view(with_last(x, w.size(0)));
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], g = as_matrix(grads[0]);
    at::Tensor dx, dw, db;
    if (ctx->needs_input_grad(0)) dx = product(g, w.t()).view(x.sizes());
    if (ctx->needs_input_grad(1)) dw = at::mm(g.t(), as_matrix(x)); // to be turned for oneDNN, both sides cost what it saves
    if (ctx->needs_input_grad(2)) db = g.sum(0);
    return {dx, dw, db};
  }
};

// LoRALinear is x·wᵀ + b with scale·(x·a_iᵀ)·u_iᵀ added to the outputs from_i … from_i+n_i: a [parts·rank, in] and u [Σn, rank] hold the parts below
// one another. For many rows the parts are added to a copy of the weight, for few to the result. w and b get no gradient.
struct LoRALinear : Function<LoRALinear> {
  struct Parts {
    double scale;
    std::vector<int64_t> from, n;
  };
  static at::Tensor merged(const at::Tensor &w, const at::Tensor &a, const at::Tensor &u, const Parts &p) {
    const int64_t rank = u.size(1);
    at::Tensor sum = w.clone(at::MemoryFormat::Contiguous);
    for (int64_t i = 0, at = 0; i < (int64_t)p.n.size(); at += p.n[i++])
      sum.narrow(0, p.from[i], p.n[i]).addmm_(u.narrow(0, at, p.n[i]), a.narrow(0, i * rank, rank), 1, p.scale);
    return sum;
  }
  static at::Tensor forward(AutogradContext *ctx, at::Tensor x, at::Tensor w, at::Tensor b, at::Tensor a, at::Tensor u, double scale,
                            std::vector<int64_t> from, std::vector<int64_t> n) {
    const at::Tensor flat = as_matrix(x);
    const Parts p{scale, from, n};
    ctx->save_for_backward({x, w, a, u});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["from"] = from;
    ctx->saved_data["n"] = n;
    at::Tensor y;
    if (flat.size(0) >= least_rows) {
      y = product(flat, merged(w, a, u, p), present(b));
    } else {
      y = product(flat, w, present(b));
      const at::Tensor h = at::mm(flat, a.t());
      const int64_t rank = u.size(1);
      for (int64_t i = 0, at = 0; i < (int64_t)n.size(); at += n[i++])
        y.narrow(1, from[i], n[i]).addmm_(h.narrow(1, i * rank, rank), u.narrow(0, at, n[i]).t(), 1, scale);
    }
    return y.view(with_last(x, w.size(0)));
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &a = saved[2], &u = saved[3], flat = as_matrix(x), g = as_matrix(grads[0]);
    const Parts p{ctx->saved_data["scale"].toDouble(), ctx->saved_data["from"].toIntVector(), ctx->saved_data["n"].toIntVector()};
    const int64_t rank = u.size(1);
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) dx = product(g, merged(w, a, u, p).t()).view(x.sizes());
    const at::Tensor h = product(flat, a);
    at::Tensor dh = at::empty_like(h), du = at::empty_like(u);
    for (int64_t i = 0, at = 0; i < (int64_t)p.n.size(); at += p.n[i++]) {
      const at::Tensor part = g.narrow(1, p.from[i], p.n[i]);
      at::Tensor to = dh.narrow(1, i * rank, rank), into = du.narrow(0, at, p.n[i]);
      at::mm_out(to, part, u.narrow(0, at, p.n[i]));
      at::mm_out(into, part.t(), h.narrow(1, i * rank, rank));
    }
    return {dx, at::Tensor(), at::Tensor(), at::mm(dh.t(), flat).mul_(p.scale), du.mul_(p.scale), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

} // namespace

extern "C" {

void *recpie_linear_op(void *x, void *w, void *b, char **err) {
  GUARD(return new at::Tensor(Linear::apply(tensor(x), tensor(w), optional(b)));)
  return nullptr;
}

void *recpie_lora_linear_op(void *x, void *w, void *b, void *a, void *u, double scale, const int64_t *from, const int64_t *n, int parts, char **err) {
  GUARD(return new at::Tensor(LoRALinear::apply(tensor(x), tensor(w), optional(b), tensor(a), tensor(u), scale,
                                                std::vector<int64_t>(from, from + parts), std::vector<int64_t>(n, n + parts)));)
  return nullptr;
}
}
