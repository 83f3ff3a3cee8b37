// The recommender's layers with gradients of their own, for contiguous float32 on the CPU: what each computes is said in attend.go, where the same
// is put together from libtorch's operations for every other case.
#include "attend.h"
#include "autograd.h"

namespace {

float *data(const at::Tensor &t) { return t.data_ptr<float>(); }
const int64_t *ints(const at::Tensor &t) { return t.data_ptr<int64_t>(); }
at::Tensor like(const at::Tensor &t, at::IntArrayRef sizes) { return at::empty(sizes, t.options().requires_grad(false)); }
at::Tensor flat(const at::Tensor &t) { return t.reshape({-1, t.size(-1)}); }

// share calls f(from, to) for parts of 0 … n−1, by several threads where the work, in numbers, pays for them.
template <class F> void share(int64_t n, int64_t each, const F &f) { at::parallel_for(0, n, std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, each)), f); }

// Rows of a table: dst[r] = table[at[r]]. Threads share the gradient by columns, so that every sum has the same order however many they are.
struct Rows : Function<Rows> {
  static at::Tensor forward(AutogradContext *ctx, at::Tensor table, at::Tensor at) {
    const int64_t d = table.size(1), n = at.numel();
    at::Tensor y = like(table, {n, d});
    share(n, d, [&](int64_t from, int64_t to) { recpie_gather(data(table), ints(at), data(y), from, to, d); });
    ctx->save_for_backward({at});
    ctx->saved_data["rows"] = table.size(0);
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const at::Tensor at = ctx->get_saved_variables()[0], g = grads[0].contiguous();
    const int64_t d = g.size(1), n = g.size(0);
    at::Tensor dt = at::zeros({ctx->saved_data["rows"].toInt(), d}, g.options());
    at::parallel_for(0, d, n * d < (1 << 16) ? d : 16, [&](int64_t from, int64_t to) { recpie_scatter_add(data(g), ints(at), n, data(dt), from, to, d); });
    return {dt, at::Tensor()};
  }
};

struct HistoryRows : Function<HistoryRows> {
  static at::Tensor forward(AutogradContext *ctx, at::Tensor products, at::Tensor rating, at::Tensor position, at::Tensor ratings, at::Tensor places,
                            at::Tensor starts) {
    const int64_t d = products.size(1), n = starts.numel() - 1;
    at::Tensor x = like(products, products.sizes());
    share(n, products.numel() / std::max<int64_t>(1, n), [&](int64_t from, int64_t to) {
      recpie_history_rows(data(products), ints(ratings), data(rating), data(position), ints(starts), data(x), from, to, d);
    });
    ctx->save_for_backward({ratings, places});
    ctx->saved_data["ratings"] = rating.size(0);
    ctx->saved_data["positions"] = position.size(0);
    return x;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor g = grads[0].contiguous();
    const int64_t d = g.size(1);
    at::Tensor dr = at::zeros({ctx->saved_data["ratings"].toInt(), d}, g.options());
    at::Tensor dp = at::zeros({ctx->saved_data["positions"].toInt(), d}, g.options());
    at::parallel_for(0, d, g.numel() < (1 << 16) ? d : 16, [&](int64_t from, int64_t to) {
      recpie_scatter_add(data(g), ints(saved[0]), g.size(0), data(dr), from, to, d);
      recpie_scatter_add(data(g), ints(saved[1]), g.size(0), data(dp), from, to, d);
    });
    return {g, dr, dp, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// HistoryAttention never forms keys and values: with one query a history, q·(W_k x) is (W_kᵀ q)·x, and Σ α (W_v x) is W_v (Σ α x).
struct HistoryAttention : Function<HistoryAttention> {
  static at::Tensor forward(AutogradContext *ctx, at::Tensor q, at::Tensor x, at::Tensor wk, at::Tensor wv, at::Tensor bv, at::Tensor starts, int64_t heads) {
    const int64_t n = q.size(0), d = q.size(1), size = d / heads;
    at::Tensor u = like(q, {n, heads, d}), alpha = like(q, {x.size(0), heads}), mix = like(q, {n, heads, d}), z = like(q, {n, d});
    const float scale = 1 / std::sqrt((float)size);
    const at::Tensor scaled = q * scale;
    for (int64_t h = 0; h < heads; h++) {
      at::Tensor part = u.select(1, h);
      at::mm_out(part, scaled.narrow(1, h * size, size), wk.narrow(0, h * size, size));
    }
    share(n, 2 * heads * x.numel() / std::max<int64_t>(1, n),
          [&](int64_t from, int64_t to) { recpie_history_attend(data(x), data(u), ints(starts), data(alpha), data(mix), from, to, heads, d); });
    for (int64_t h = 0; h < heads; h++) {
      at::Tensor part = z.narrow(1, h * size, size);
      at::addmm_out(part, bv.narrow(0, h * size, size), mix.select(1, h), wv.narrow(0, h * size, size).t());
    }
    ctx->save_for_backward({scaled, x, wk, wv, starts, u, alpha, mix});
    ctx->saved_data["heads"] = heads;
    return z;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &x = saved[1], &wk = saved[2], &wv = saved[3], &starts = saved[4], &u = saved[5], &alpha = saved[6], &mix = saved[7];
    const at::Tensor g = grads[0].contiguous();
    const int64_t heads = ctx->saved_data["heads"].toInt(), n = q.size(0), d = q.size(1), size = d / heads;
    at::Tensor dmix = like(q, {n, heads, d}), dwv = like(wv, wv.sizes()), dx = like(x, x.sizes()), du = like(q, {n, heads, d}), dq = like(q, q.sizes()),
               dwk = like(wk, wk.sizes());
    for (int64_t h = 0; h < heads; h++) {
      const at::Tensor gh = g.narrow(1, h * size, size);
      at::Tensor part = dmix.select(1, h), w = dwv.narrow(0, h * size, size);
      at::mm_out(part, gh, wv.narrow(0, h * size, size));
      at::mm_out(w, gh.t(), mix.select(1, h));
    }
    share(n, 6 * heads * x.numel() / std::max<int64_t>(1, n), [&](int64_t from, int64_t to) {
      recpie_history_attend_grad(data(x), data(u), ints(starts), data(alpha), data(dmix), data(dx), data(du), from, to, heads, d);
    });
    const float scale = 1 / std::sqrt((float)size);
    for (int64_t h = 0; h < heads; h++) {
      at::Tensor part = dq.narrow(1, h * size, size), w = dwk.narrow(0, h * size, size);
      at::mm_out(part, du.select(1, h), wk.narrow(0, h * size, size).t());
      at::mm_out(w, q.narrow(1, h * size, size).t(), du.select(1, h));
    }
    return {dq.mul_(scale), dx, dwk, dwv, g.sum(0), at::Tensor(), at::Tensor()};
  }
};

struct TokenAttention : Function<TokenAttention> {
  static variable_list forward(AutogradContext *ctx, at::Tensor x, at::Tensor wq, at::Tensor bq, at::Tensor wk, at::Tensor bk, at::Tensor wv, at::Tensor bv,
                               int64_t heads) {
    const int64_t n = x.size(0), tokens = x.size(1), d = x.size(2);
    const at::Tensor w = at::cat({wq, wk, wv}), qkv = at::addmm(at::cat({bq, bk, bv}), flat(x), w.t());
    at::Tensor alpha = like(x, {n, heads, tokens, tokens}), y = like(x, x.sizes());
    share(n, 4 * tokens * tokens * d, [&](int64_t from, int64_t to) { recpie_token_attend(data(qkv), data(alpha), data(y), from, to, tokens, heads, d); });
    ctx->save_for_backward({x, w, qkv, alpha});
    ctx->set_materialize_grads(false);
    return {y, alpha};
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &qkv = saved[2], &alpha = saved[3];
    const int64_t n = x.size(0), tokens = x.size(1), d = x.size(2), heads = alpha.size(1);
    const at::Tensor g = grads[0].defined() ? grads[0].contiguous() : at::zeros_like(x);
    const at::Tensor ga = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    at::Tensor dqkv = like(qkv, qkv.sizes());
    share(n, 12 * tokens * tokens * d, [&](int64_t from, int64_t to) {
      recpie_token_attend_grad(data(qkv), data(alpha), data(g), ga.defined() ? data(ga) : nullptr, data(dqkv), from, to, tokens, heads, d);
    });
    const at::Tensor dw = at::mm(dqkv.t(), flat(x)), db = dqkv.sum(0);
    const auto part = [d](const at::Tensor &t, int64_t i) { return t.narrow(0, i * d, d); };
    return {at::mm(dqkv, w).view(x.sizes()), part(dw, 0), part(db, 0), part(dw, 1), part(db, 1), part(dw, 2), part(db, 2), at::Tensor()};
  }
};

// The sums over rows are made of parts of fixed size, so that they do not depend on the number of threads.
constexpr int64_t part_rows = 256;

struct AddNorm : Function<AddNorm> {
  static at::Tensor forward(AutogradContext *ctx, at::Tensor x, at::Tensor y, at::Tensor w, at::Tensor b, double eps) {
    const int64_t d = w.numel(), rows = x.numel() / d;
    at::Tensor norm = like(x, x.sizes()), rstd = like(x, {rows}), out = like(x, x.sizes());
    share(rows, d, [&](int64_t from, int64_t to) {
      recpie_layer_norm(data(x), y.numel() ? data(y) : nullptr, data(w), data(b), (float)eps, data(norm), data(rstd), data(out), from, to, d);
    });
    ctx->save_for_backward({norm, rstd, w});
    ctx->saved_data["both"] = y.numel() > 0;
    return out;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &norm = saved[0], &rstd = saved[1], &w = saved[2], g = grads[0].contiguous();
    const int64_t d = w.numel(), rows = g.numel() / d, parts = (rows + part_rows - 1) / part_rows;
    at::Tensor dx = like(g, g.sizes()), sums = at::zeros({2, parts, d}, g.options());
    share(parts, part_rows * d, [&](int64_t from, int64_t to) {
      for (int64_t p = from; p < to; p++)
        recpie_layer_norm_grad(data(g), data(norm), data(rstd), data(w), data(dx), data(sums) + p * d, data(sums) + (parts + p) * d, p * part_rows,
                               std::min(rows, (p + 1) * part_rows), d);
    });
    return {dx, ctx->saved_data["both"].toBool() ? dx : at::Tensor(), sums[0].sum(0), sums[1].sum(0), at::Tensor()};
  }
};

struct LinearRelu : Function<LinearRelu> {
  static at::Tensor forward(AutogradContext *ctx, at::Tensor x, at::Tensor w, at::Tensor b, at::Tensor mask) {
    at::Tensor y = at::addmm(b, flat(x), w.t());
    share(y.numel(), 1, [&](int64_t from, int64_t to) { recpie_relu_mask(data(y), mask.numel() ? data(mask) : nullptr, from, to); });
    ctx->save_for_backward({x, w, y, mask});
    auto sizes = x.sizes().vec();
    sizes.back() = w.size(0);
    return y.view(sizes);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &y = saved[2], &mask = saved[3], g = grads[0].contiguous();
    at::Tensor h = like(y, y.sizes());
    share(y.numel(), 1, [&](int64_t from, int64_t to) { recpie_relu_mask_grad(data(y), mask.numel() ? data(mask) : nullptr, data(g), data(h), from, to); });
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) dx = at::mm(h, w).view(x.sizes());
    return {dx, at::mm(h.t(), flat(x)), h.sum(0), at::Tensor()};
  }
};

at::Tensor optional(void *t) { return t ? tensor(t) : at::empty({0}); }
at::Tensor indices(const int64_t *at, int64_t n) {
  at::Tensor t = at::empty({n}, at::kLong);
  std::copy(at, at + n, t.data_ptr<int64_t>());
  return t;
}

} // namespace

extern "C" {

void *recpie_rows_op(void *table, const int64_t *at, int64_t n, char **err) {
  GUARD(return new at::Tensor(Rows::apply(tensor(table), indices(at, n)));)
  return nullptr;
}

void *recpie_history_rows_op(void *products, void *rating, void *position, const int64_t *ratings, const int64_t *places, const int64_t *starts, int64_t n,
                             char **err) {
  GUARD(const int64_t rows = starts[n]; return new at::Tensor(HistoryRows::apply(tensor(products), tensor(rating), tensor(position), indices(ratings, rows),
                                                                                   indices(places, rows), indices(starts, n + 1)));)
  return nullptr;
}

void *recpie_history_attention_op(void *q, void *x, void *wk, void *wv, void *bv, const int64_t *starts, int64_t heads, char **err) {
  GUARD(return new at::Tensor(HistoryAttention::apply(tensor(q), tensor(x), tensor(wk), tensor(wv), tensor(bv), indices(starts, tensor(q).size(0) + 1), heads));)
  return nullptr;
}

int recpie_token_attention_op(void *x, void *const *w, int64_t heads, void **out, char **err) {
  GUARD(auto all = TokenAttention::apply(tensor(x), tensor(w[0]), tensor(w[1]), tensor(w[2]), tensor(w[3]), tensor(w[4]), tensor(w[5]), heads);
        for (size_t i = 0; i < all.size(); i++) out[i] = new at::Tensor(all[i]); return 1;)
  return 0;
}

void *recpie_add_norm_op(void *x, void *y, void *w, void *b, double eps, char **err) {
  GUARD(return new at::Tensor(AddNorm::apply(tensor(x), optional(y), tensor(w), tensor(b), eps));)
  return nullptr;
}

void *recpie_linear_relu_op(void *x, void *w, void *b, void *mask, char **err) {
  GUARD(return new at::Tensor(LinearRelu::apply(tensor(x), tensor(w), tensor(b), optional(mask)));)
  return nullptr;
}
}
