"""Writes internal/evaluate/testdata/scipy.json: tests, intervals and scores of calibration computed by SciPy and NumPy.

Usage: python3 scripts/reference/evaluate_scipy.py internal/evaluate/testdata/scipy.json     (needs the packages scipy and numpy; made with 1.17.1 and 2.4.6)

Numbers are multiples of 1/64, which float32 holds exactly. The bootstrap is given the users of each resample, so that only what is done with them is
compared. The CRPS is integrated from its definition, not taken from its closed form.
"""
import json
import sys

import numpy as np
from scipy import integrate, stats

rng = np.random.default_rng(7)


def grid(low, high, size):
    return rng.integers(int(low * 64), int(high * 64) + 1, size) / 64


def seeds():
    out = []
    for n in (2, 3, 5, 12):
        a, b = rng.normal(.24, .002, n), rng.normal(.241, .002, n)
        t = stats.ttest_rel(a, b)
        out.append(dict(a=a.tolist(), b=b.tolist(), t=t.statistic, p=t.pvalue, df=int(t.df), mean=float((a - b).mean()), se=float(stats.sem(a - b))))
    return out


def signed_rank():
    out = []
    for n, shift in ((12, .1), (40, 0), (200, .05)):
        d = grid(-1, 1, n) + round(shift * 64) / 64  # many ties, some zeros
        w = stats.wilcoxon(d, zero_method="wilcox", correction=False, method="approx")
        out.append(dict(d=d.tolist(), n=int((d != 0).sum()), w=float(w.statistic), p=float(w.pvalue)))
    return out


def rank_sum():
    out = []
    for n, m, shift in ((12, 9, .5), (60, 80, .1)):
        a, b = grid(0, 1, n) + round(shift * 64) / 64, grid(0, 1, m)
        u = stats.mannwhitneyu(a, b, alternative="two-sided", method="asymptotic", use_continuity=False)
        out.append(dict(a=a.tolist(), b=b.tolist(), share=float(u.statistic / n / m), p=float(u.pvalue)))
    return out


def bootstrap():
    users = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 4])
    truth, n, resamples = grid(0, 1, len(users)), 5, 100
    a, b = [grid(0, 1, len(users)).tolist() for _ in range(2)], [grid(0, 1, len(users)).tolist() for _ in range(2)]
    draws = rng.integers(0, n, (resamples, n))
    diffs = []
    for draw in draws:
        rows = np.concatenate([np.flatnonzero(users == u) for u in draw])
        mse = [np.mean([(np.array(p)[rows] - truth[rows]) ** 2 for p in seeds]) for seeds in (a, b)]
        diffs.append(np.sqrt(mse[0]) - np.sqrt(mse[1]))
    low, high = np.percentile(diffs, [2.5, 97.5])
    return dict(user=users.tolist(), truth=truth.tolist(), a=a, b=b, draws=draws.ravel().tolist(), resamples=resamples, low=low, high=high)


def crps(mu, sd, y):
    """Its definition, the integral of (F(x) − [x ≥ y])² over x, in two smooth parts."""
    below = integrate.quad(lambda x: stats.norm.cdf(x, mu, sd) ** 2, mu - 12 * sd, y)[0] if y > mu - 12 * sd else 0
    above = integrate.quad(lambda x: stats.norm.sf(x, mu, sd) ** 2, y, mu + 12 * sd)[0] if y < mu + 12 * sd else 0
    return below + above


def calibration():
    n, factor = 400, 1.25
    truth, sd = grid(0, 1, n), grid(.1, .4, n)
    pred = np.clip(np.round((.2 + .6 * truth + rng.normal(0, .2, n)) * 64) / 64, 0, 1)
    s, err = sd * factor, truth - pred
    line = stats.linregress(pred, truth)
    coverage = []
    for level in (.5, .8, .9, .95):
        low, high = stats.norm.interval(level, pred, s)
        coverage.append(float(((truth >= low) & (truth <= high)).mean()))
    label = (truth >= .75).astype(float)
    return dict(pred=pred.tolist(), truth=truth.tolist(), sd=sd.tolist(), factor=factor, slope=line.slope, slope_se=line.stderr, intercept=line.intercept,
                coverage=coverage, crps=float(np.mean([crps(*x) for x in zip(pred, s, truth)])), nll=float(-stats.norm.logpdf(truth, pred, s).mean()),
                sharpness=float(s.mean()), recalibrated=float(np.sqrt(np.mean((err / sd) ** 2))), brier=float(np.mean((pred - label) ** 2)))


with open(sys.argv[1], "w") as f:
    json.dump(dict(seeds=seeds(), signed_rank=signed_rank(), rank_sum=rank_sum(), bootstrap=bootstrap(), calibration=calibration()), f, separators=(",", ":"))
    f.write("\n")
