// Chooses the loops of attend.h for the processor, at each call.
#include "attend.h"

void history_rows_plain(const float *products, const int64_t *ratings, const float *rating, const float *position, const int64_t *starts, float *x, int64_t from, int64_t to, int64_t d);
void history_rows_avx2(const float *products, const int64_t *ratings, const float *rating, const float *position, const int64_t *starts, float *x, int64_t from, int64_t to, int64_t d);
void history_attend_plain(const float *x, const float *u, const int64_t *starts, float *alpha, float *mix, int64_t from, int64_t to, int64_t heads, int64_t d);
void history_attend_avx2(const float *x, const float *u, const int64_t *starts, float *alpha, float *mix, int64_t from, int64_t to, int64_t heads, int64_t d);
void history_attend_grad_plain(const float *x, const float *u, const int64_t *starts, const float *alpha, const float *dmix, float *dx, float *du, int64_t from, int64_t to, int64_t heads, int64_t d);
void history_attend_grad_avx2(const float *x, const float *u, const int64_t *starts, const float *alpha, const float *dmix, float *dx, float *du, int64_t from, int64_t to, int64_t heads, int64_t d);
void token_attend_plain(const float *qkv, float *alpha, float *out, int64_t from, int64_t to, int64_t tokens, int64_t heads, int64_t d);
void token_attend_avx2(const float *qkv, float *alpha, float *out, int64_t from, int64_t to, int64_t tokens, int64_t heads, int64_t d);
void token_attend_grad_plain(const float *qkv, const float *alpha, const float *dout, const float *dalpha, float *dqkv, int64_t from, int64_t to, int64_t tokens, int64_t heads, int64_t d);
void token_attend_grad_avx2(const float *qkv, const float *alpha, const float *dout, const float *dalpha, float *dqkv, int64_t from, int64_t to, int64_t tokens, int64_t heads, int64_t d);
void layer_norm_plain(const float *x, const float *y, const float *w, const float *b, float eps, float *norm, float *rstd, float *out, int64_t from, int64_t to, int64_t d);
void layer_norm_avx2(const float *x, const float *y, const float *w, const float *b, float eps, float *norm, float *rstd, float *out, int64_t from, int64_t to, int64_t d);
void layer_norm_grad_plain(const float *g, const float *norm, const float *rstd, const float *w, float *dx, float *dw, float *db, int64_t from, int64_t to, int64_t d);
void layer_norm_grad_avx2(const float *g, const float *norm, const float *rstd, const float *w, float *dx, float *dw, float *db, int64_t from, int64_t to, int64_t d);
void scatter_add_plain(const float *src, const int64_t *at, int64_t rows, float *dst, int64_t from, int64_t to, int64_t d);
void scatter_add_avx2(const float *src, const int64_t *at, int64_t rows, float *dst, int64_t from, int64_t to, int64_t d);
void gather_plain(const float *src, const int64_t *at, float *dst, int64_t from, int64_t to, int64_t d);
void gather_avx2(const float *src, const int64_t *at, float *dst, int64_t from, int64_t to, int64_t d);
void relu_mask_plain(float *y, const float *mask, int64_t from, int64_t to);
void relu_mask_avx2(float *y, const float *mask, int64_t from, int64_t to);
void relu_mask_grad_plain(const float *y, const float *mask, const float *g, float *out, int64_t from, int64_t to);
void relu_mask_grad_avx2(const float *y, const float *mask, const float *g, float *out, int64_t from, int64_t to);

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CHOICE(name, ...) (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? name##_avx2(__VA_ARGS__) : name##_plain(__VA_ARGS__))
#else
#define CHOICE(name, ...) name##_plain(__VA_ARGS__)
#endif

void recpie_history_rows(const float *products, const int64_t *ratings, const float *rating, const float *position, const int64_t *starts, float *x, int64_t from, int64_t to, int64_t d) { CHOICE(history_rows, products, ratings, rating, position, starts, x, from, to, d); }
void recpie_history_attend(const float *x, const float *u, const int64_t *starts, float *alpha, float *mix, int64_t from, int64_t to, int64_t heads, int64_t d) { CHOICE(history_attend, x, u, starts, alpha, mix, from, to, heads, d); }
void recpie_history_attend_grad(const float *x, const float *u, const int64_t *starts, const float *alpha, const float *dmix, float *dx, float *du, int64_t from, int64_t to, int64_t heads, int64_t d) { CHOICE(history_attend_grad, x, u, starts, alpha, dmix, dx, du, from, to, heads, d); }
void recpie_token_attend(const float *qkv, float *alpha, float *out, int64_t from, int64_t to, int64_t tokens, int64_t heads, int64_t d) { CHOICE(token_attend, qkv, alpha, out, from, to, tokens, heads, d); }
void recpie_token_attend_grad(const float *qkv, const float *alpha, const float *dout, const float *dalpha, float *dqkv, int64_t from, int64_t to, int64_t tokens, int64_t heads, int64_t d) { CHOICE(token_attend_grad, qkv, alpha, dout, dalpha, dqkv, from, to, tokens, heads, d); }
void recpie_layer_norm(const float *x, const float *y, const float *w, const float *b, float eps, float *norm, float *rstd, float *out, int64_t from, int64_t to, int64_t d) { CHOICE(layer_norm, x, y, w, b, eps, norm, rstd, out, from, to, d); }
void recpie_layer_norm_grad(const float *g, const float *norm, const float *rstd, const float *w, float *dx, float *dw, float *db, int64_t from, int64_t to, int64_t d) { CHOICE(layer_norm_grad, g, norm, rstd, w, dx, dw, db, from, to, d); }
void recpie_scatter_add(const float *src, const int64_t *at, int64_t rows, float *dst, int64_t from, int64_t to, int64_t d) { CHOICE(scatter_add, src, at, rows, dst, from, to, d); }
void recpie_gather(const float *src, const int64_t *at, float *dst, int64_t from, int64_t to, int64_t d) { CHOICE(gather, src, at, dst, from, to, d); }
void recpie_relu_mask(float *y, const float *mask, int64_t from, int64_t to) { CHOICE(relu_mask, y, mask, from, to); }
void recpie_relu_mask_grad(const float *y, const float *mask, const float *g, float *out, int64_t from, int64_t to) { CHOICE(relu_mask_grad, y, mask, g, out, from, to); }
