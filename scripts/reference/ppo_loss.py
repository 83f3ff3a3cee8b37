"""Writes policy/testdata/steps.json: PPO steps from ratings to the loss and its gradient by every log probability, computed by PyTorch in float64.

Usage: python3 scripts/reference/ppo_loss.py policy/testdata/steps.json     (needs the package torch)

Each case turns one option. What is computed is the text of policy's documentation, written a second time: rewards (equation 1 of the paper), the
credit of each sentence, advantages within a pair, the charge per token, the clipped loss of a mean over tokens, its gradient by autograd, the next weight of the KL.
"""
import json
import random
import sys

import torch

torch.set_default_dtype(torch.float64)
DEFAULTS = dict(credit="crossed", clip_low=0.2, clip_high=0.2, beta=0.0, beta_rate=0.2, target_kl=0.0, beta_min=0.01, beta_max=10.0,
                rejected=0.5, loose=0.25, max_advantage=5.0, group=4, pairs=2, flags={}, critic=None, spread=1.0)
CASES = {
    "crossed credit": {},
    "the pair's reward": dict(credit="pair"),
    "what a side alone brought": dict(credit="side"),
    "kl charged per token": dict(beta=0.1),
    "kl weight rises": dict(beta=0.1, target_kl=0.05),
    "kl weight falls": dict(beta=0.1, target_kl=500.0),
    "kl weight at its bound": dict(beta=10.0, target_kl=0.05),
    "asymmetric clip": dict(clip_low=0.1, clip_high=0.4, spread=2.0),
    "tight clip": dict(clip_low=0.02, clip_high=0.02, spread=2.0),
    "rejected and loose texts": dict(flags={(0, "pos", 1): "rejected", (1, "neg", 2): "loose", (1, "neg", 0): "rejected"}),
    "advantages at their limit": dict(max_advantage=0.5),
    "critic for one usable alternative": dict(group=1, pairs=3, credit="pair", critic=dict(ridge=0.5)),
    "one usable alternative and no critic": dict(group=1, pairs=2, credit="pair", beta=0.05),
    "everything": dict(credit="crossed", clip_low=0.15, clip_high=0.3, beta=0.05, target_kl=2.0, flags={(0, "neg", 3): "loose", (1, "pos", 0): "rejected"}, spread=2.0),
}


def grid(rng, low, high):
    """A number that float32 holds exactly."""
    return rng.randint(int(low * 64), int(high * 64)) / 64


def build(name, options):
    o, rng = DEFAULTS | options, random.Random(name)
    case = dict(name=name, settings={k: o[k] for k in DEFAULTS if k not in ("flags", "critic", "group", "pairs", "spread")}, pairs=[])
    texts = []  # (pair, side, index, text)
    for p in range(o["pairs"]):
        y, g = rng.random(), o["group"]
        pair = dict(y=y, features=[rng.random()], predicted=[[rng.random() for _ in range(g)] for _ in range(g)],
                    without_pos=[rng.random() for _ in range(g)], without_neg=[rng.random() for _ in range(g)], pos=[], neg=[])
        for side in ("pos", "neg"):
            for i in range(g):
                old = [grid(rng, -3, -.1) for _ in range(rng.randint(2, 5))]
                text = dict(old=old, ref=[x + grid(rng, -1, 1) for x in old], new=[x + o["spread"] * grid(rng, -.4, .4) for x in old],
                            flag=o["flags"].get((p, side, i), ""))
                pair[side].append(text)
                texts.append((p, side, i, text))
        case["pairs"].append(pair)

    coefficients = None
    if o["critic"]:
        seen = [([rng.random()], rng.random()) for _ in range(6)]
        case["critic"] = dict(ridge=o["critic"]["ridge"], seen=[dict(features=f, reward=r) for f, r in seen])
        x = torch.tensor([[1.0] + f for f, _ in seen])
        coefficients = torch.linalg.solve(x.T @ x + o["critic"]["ridge"] * torch.eye(2), x.T @ torch.tensor([r for _, r in seen]))

    def reward(y, predicted):
        return 1 / (1 + (y - torch.tensor(predicted)).abs())

    credit = {}
    for p, pair in enumerate(case["pairs"]):
        r = reward(pair["y"], pair["predicted"])
        both = r.diagonal()
        credit[p, "pos"], credit[p, "neg"] = {
            "crossed": lambda: (r.mean(1), r.mean(0)),
            "pair": lambda: (both, both),
            "side": lambda: (both - reward(pair["y"], pair["without_pos"]), both - reward(pair["y"], pair["without_neg"])),
        }[o["credit"]]()

    raw = []
    for p, side, i, text in texts:
        others = [credit[p, side][j] for j, t in enumerate(case["pairs"][p][side]) if j != i and t["flag"] != "rejected"]
        if text["flag"] == "rejected":
            raw.append(None)
        elif others:
            raw.append(credit[p, side][i] - torch.stack(others).mean())
        elif coefficients is not None:
            raw.append(credit[p, side][i] - coefficients @ torch.tensor([1.0] + case["pairs"][p]["features"]))
        else:
            raw.append(None)
    used = [a for a in raw if a is not None]
    scale = torch.stack(used).square().mean().sqrt() if used else torch.tensor(0.0)
    penalties = torch.tensor([{"rejected": o["rejected"], "loose": o["loose"]}.get(t["flag"], 0.0) for *_, t in texts])
    limit = o["max_advantage"]
    advantages = torch.stack([torch.tensor(0.0) if a is None else (a / scale.clamp(min=1e-6)).clamp(-limit, limit) for a in raw])
    advantages = advantages - (penalties - penalties.mean())

    total = sum(len(t["old"]) for *_, t in texts)
    loss, leaves, charged, k1 = torch.tensor(0.0), [], [], 0.0
    for (_, _, _, t), a in zip(texts, advantages):
        old, ref, new = (torch.tensor(t[k]) for k in ("old", "ref", "new"))
        new.requires_grad_()
        per_token = (a - o["beta"] * (old - ref)) / total
        ratio = (new - old).exp()
        loss = loss - torch.minimum(ratio * per_token, ratio.clamp(1 - o["clip_low"], 1 + o["clip_high"]) * per_token).sum()
        leaves.append(new)
        charged.append(per_token)
        k1 += float((old - ref).sum())
    gradients = torch.autograd.grad(loss, leaves)
    k1 /= len(texts)
    beta = o["beta"]
    if o["target_kl"] > 0:
        beta = beta * torch.tensor(o["beta_rate"] * max(-1.0, min(1.0, k1 / o["target_kl"] - 1))).exp().item()
        beta = max(o["beta_min"], min(o["beta_max"], beta))
    numbers = lambda tensors: [t.tolist() for t in tensors]
    case["want"] = dict(credit=[dict(pos=credit[p, "pos"].tolist(), neg=credit[p, "neg"].tolist()) for p in range(o["pairs"])], scale=scale.item(),
                        advantages=advantages.tolist(), per_token=numbers(charged), loss=loss.item(), gradients=numbers(gradients), kl=k1, beta=beta)
    return case


with open(sys.argv[1], "w") as f: # a case per line
    f.write("[\n" + ",\n".join(json.dumps(build(*c)) for c in CASES.items()) + "\n]\n")
