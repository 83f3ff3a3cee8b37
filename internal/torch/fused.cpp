// Operations with a gradient of their own, for float32 on the CPU: one loop each way in place of many passes over memory (Dao et al. 2022 have
// the argument). What they compute is written in nn.go, where the same is put together from libtorch's operations for every other case.
#include "autograd.h"
#include "kernels.h"

namespace {

constexpr int64_t grain = 1 << 15; // numbers below which a second thread costs more than it brings

float *data(const at::Tensor &t) { return t.data_ptr<float>(); }

template <class F> void over_rows(int64_t rows, int64_t width, const F &f) {
  at::parallel_for(0, rows, std::max<int64_t>(1, grain / std::max<int64_t>(1, width)), f);
}

struct RMSNorm : Function<RMSNorm> {
  static at::Tensor forward(AutogradContext *ctx, at::Tensor x, at::Tensor w, double eps) {
    const int64_t width = w.numel(), rows = x.numel() / width;
    at::Tensor y = at::empty(x.sizes(), x.options().requires_grad(false));
    const float *xp = data(x), *wp = data(w);
    float *yp = data(y);
    over_rows(rows, width, [&](int64_t from, int64_t to) {
      recpie_rms_norm(xp + from * width, wp, yp + from * width, to - from, width, (float)eps);
    });
    ctx->save_for_backward({x, w});
    ctx->saved_data["eps"] = eps;
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1];
    const at::Tensor g = grads[0].contiguous();
    const float eps = (float)ctx->saved_data["eps"].toDouble();
    const int64_t width = w.numel(), rows = x.numel() / width;
    at::Tensor dx = at::empty_like(x);
    const float *xp = data(x), *wp = data(w), *gp = data(g);
    float *dp = data(dx);
    over_rows(rows, width, [&](int64_t from, int64_t to) {
      const int64_t at = from * width;
      recpie_rms_norm_grad(xp + at, wp, gp + at, dp + at, to - from, width, eps);
    });
    return {dx, at::Tensor(), at::Tensor()};
  }
};

struct SiluMul : Function<SiluMul> {
  static at::Tensor forward(AutogradContext *ctx, at::Tensor x) {
    auto sizes = x.sizes().vec();
    const int64_t width = sizes.back() /= 2, rows = x.numel() / (2 * width);
    at::Tensor y = at::empty(sizes, x.options().requires_grad(false));
    const float *xp = data(x);
    float *yp = data(y);
    over_rows(rows, 2 * width, [&](int64_t from, int64_t to) {
      recpie_silu_mul(xp + 2 * from * width, yp + from * width, to - from, width);
    });
    ctx->save_for_backward({x});
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const at::Tensor x = ctx->get_saved_variables()[0], g = grads[0].contiguous();
    const int64_t width = g.size(-1), rows = g.numel() / width;
    at::Tensor dx = at::empty_like(x);
    const float *xp = data(x), *gp = data(g);
    float *dp = data(dx);
    over_rows(rows, 2 * width, [&](int64_t from, int64_t to) {
      recpie_silu_mul_grad(xp + 2 * from * width, gp + from * width, dp + 2 * from * width, to - from, width);
    });
    return {dx};
  }
};

// Heads takes the product of the fused weights apart: x [rows, cols, (heads + 2·kv)·d] becomes q [rows, heads, cols, d], k and v [rows, kv, cols, d],
// q and k turned by the angles unless cos and sin [rows·cols, d/2] are empty.
struct Heads : Function<Heads> {
  static variable_list forward(AutogradContext *ctx, at::Tensor x, at::Tensor cos, at::Tensor sin, int64_t heads, int64_t kv) {
    const int64_t rows = x.size(0), cols = x.size(1), d = x.size(2) / (heads + 2 * kv);
    const auto options = x.options().requires_grad(false);
    variable_list out = {at::empty({rows, heads, cols, d}, options), at::empty({rows, kv, cols, d}, options),
                         at::empty({rows, kv, cols, d}, options)};
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["kv"] = kv;
    ctx->saved_data["cols"] = cols;
    move(x, cos, sin, out[0], out[1], out[2], false);
    return out;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const int64_t heads = ctx->saved_data["heads"].toInt(), kv = ctx->saved_data["kv"].toInt(), cols = ctx->saved_data["cols"].toInt();
    at::Tensor some;
    for (const at::Tensor &g : grads)
      if (g.defined()) some = g;
    const int64_t rows = some.size(0), d = some.size(3);
    for (size_t i = 0; i < grads.size(); i++)
      grads[i] = grads[i].defined() ? grads[i].contiguous() : at::zeros({rows, i == 0 ? heads : kv, cols, d}, some.options());
    at::Tensor dx = at::empty({rows, cols, (heads + 2 * kv) * d}, some.options());
    move(dx, saved[0], saved[1], grads[0], grads[1], grads[2], true);
    return {dx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
  static void move(const at::Tensor &x, const at::Tensor &cos, const at::Tensor &sin, const at::Tensor &q, const at::Tensor &k,
                   const at::Tensor &v, bool back) {
    const int64_t rows = q.size(0), heads = q.size(1), cols = q.size(2), d = q.size(3), kv = k.size(1);
    const float *cp = cos.numel() ? data(cos) : nullptr, *sp = sin.numel() ? data(sin) : nullptr;
    float *xp = data(x), *qp = data(q), *kp = data(k), *vp = data(v);
    over_rows(rows * cols, (heads + 2 * kv) * d, [&](int64_t from, int64_t to) {
      recpie_heads(xp, cp, sp, qp, kp, vp, from, to, cols, heads, kv, d, back);
    });
  }
};

} // namespace

extern "C" {

void *recpie_rms_norm_op(void *x, void *w, double eps, char **err) {
  GUARD(return new at::Tensor(RMSNorm::apply(tensor(x), tensor(w), eps));)
  return nullptr;
}

void *recpie_silu_mul_op(void *x, char **err) {
  GUARD(return new at::Tensor(SiluMul::apply(tensor(x)));)
  return nullptr;
}

int recpie_heads_op(void *x, void *cos, void *sin, int64_t heads, int64_t kv, void **out, char **err) {
  GUARD(at::Tensor none = at::empty({0}); auto all = Heads::apply(tensor(x), cos ? tensor(cos) : none, sin ? tensor(sin) : none, heads, kv);
        for (size_t i = 0; i < all.size(); i++) out[i] = new at::Tensor(all[i]); return 1;)
  return 0;
}
}
