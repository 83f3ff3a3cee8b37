"""Matrix factorisation and LightGBM on the numbers that bench/accuracy wrote: chosen on validation, refitted, test predictions written.

LightGBM gets the features, the text vectors and the base, and predicts what is left of the rating beside the base, as the network does;
leaves and regularisation are chosen on validation among twelve settings, the number of trees by early stopping.
"""
import os
import sys

import lightgbm
import numpy as np

DIR, SEEDS = sys.argv[1], int(sys.argv[2])


def read(name, kind, dtype="f4"):
    path = os.path.join(DIR, f"{name}.{kind}")
    return np.fromfile(path, dtype) if os.path.exists(path) else None


def part(name):
    base = read(name, "base")
    x = read(name, "x").reshape(len(base), -1)
    ids = read(name, "ids", "i4").reshape(-1, 2)
    return np.c_[x, base], base, ids, read(name, "y")


def rmse(p, y):
    return float(np.sqrt(((np.clip(p, 0, 1) - y) ** 2).mean()))


def trees(train, val, both, test):
    def fit(params, data, rounds, stop=None):
        sets = lightgbm.Dataset(data[0], data[3] - data[1])
        calls, valid = [], None
        if stop is not None:
            valid = [lightgbm.Dataset(stop[0], stop[3] - stop[1], reference=sets)]
            calls = [lightgbm.early_stopping(50, verbose=False)]
        return lightgbm.train(params, sets, rounds, valid_sets=valid, callbacks=calls)

    best = None
    for leaves in (7, 15, 31):
        for least in (20, 80):
            for l2 in (5, 50):
                params = dict(objective="l2", learning_rate=.03, num_leaves=leaves, min_data_in_leaf=least, lambda_l2=l2, feature_fraction=.6,
                              bagging_fraction=.8, bagging_freq=1, verbosity=-1, num_threads=2, seed=1)
                m = fit(params, train, 3000, val)
                score = rmse(m.predict(val[0]) + val[1], val[3])
                if best is None or score < best[0]:
                    best = score, params
    print("lightgbm", round(best[0], 4), best[1])
    out = []
    for seed in range(1, SEEDS + 1):
        params = dict(best[1], seed=seed)
        rounds = fit(params, train, 3000, val).best_iteration
        out.append(np.clip(fit(params, both, rounds).predict(test[0]) + test[1], 0, 1))
    return np.array(out, "f4")


def factorise(data, k, l2, seed, sweeps=12):
    """Alternating least squares of y = mu + b_u + b_i + p_u·q_i, biases among the factors; the ridge counts in records."""
    _, _, ids, y = data
    users, items = int(ids[:, 0].max()) + 1, int(ids[:, 1].max()) + 1
    rng = np.random.default_rng(seed)
    mu = y.mean()
    p, q = rng.normal(0, .1, (users, k)), rng.normal(0, .1, (items, k))
    bu, bi = np.zeros(users), np.zeros(items)
    sides = []
    for col, n in ((0, users), (1, items)):
        order = np.argsort(ids[:, col], kind="stable")
        sides.append((order, np.searchsorted(ids[order, col], np.arange(n + 1))))

    def solve(side, col, mine, bias, other, other_bias):
        order, start = side
        for a in range(len(mine)):
            s = order[start[a]:start[a + 1]]
            if len(s) == 0:
                mine[a], bias[a] = 0, 0
                continue
            o = ids[s, 1 - col]
            w = np.c_[other[o], np.ones(len(s))]
            ridge = np.full(k + 1, l2 * .1)
            ridge[-1] = l2
            sol = np.linalg.solve(w.T @ w + np.diag(ridge), w.T @ (y[s] - mu - other_bias[o]))
            mine[a], bias[a] = sol[:-1], sol[-1]

    for _ in range(sweeps):
        solve(sides[0], 0, p, bu, q, bi)
        solve(sides[1], 1, q, bi, p, bu)

    def predict(pairs):
        u, i = pairs[:, 0], pairs[:, 1]
        ku, ki = u < users, i < items
        u, i = np.where(ku, u, 0), np.where(ki, i, 0)
        return np.clip(mu + bu[u] * ku + bi[i] * ki + (p[u] * q[i]).sum(1) * ku * ki, 0, 1)

    return predict


def factors(train, val, both, test):
    grid = [(k, l2) for k in (2, 4, 8, 16) for l2 in (2, 5, 10, 20)]
    scores = [rmse(factorise(train, k, l2, 1)(val[2]), val[3]) for k, l2 in grid]
    k, l2 = grid[int(np.argmin(scores))]
    print("mf", round(min(scores), 4), k, l2)
    return np.array([factorise(both, k, l2, seed)(test[2]) for seed in range(1, SEEDS + 1)], "f4")


parts = [part(n) for n in ("train", "val", "both", "test")]
for name, run in (("lightgbm", trees), ("mf", factors)):
    path = os.path.join(DIR, name + ".pred")
    run(*parts).tofile(path)
