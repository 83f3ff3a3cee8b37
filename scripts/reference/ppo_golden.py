"""Writes policy/testdata/*.ppo: PPO batches in text with what they must become, computed here a second time in plain Python.

Usage: python3 scripts/reference/ppo_golden.py policy/testdata
"""
import math
import sys

CASES = {
    "leave_one_out": dict(doc="Four alternatives of one pair, three of another; no penalties, no KL.",
        beta=0.0, rejected=0.5, loose=0.25, groups=[
            [(.90, ""), (.92, ""), (.91, ""), (.95, "")], [(.60, ""), (.61, ""), (.59, "")]]),
    "penalties": dict(doc="A rejected and a loose text: scaled rewards first, penalties after, centred over the batch.",
        beta=0.0, rejected=0.5, loose=0.25, groups=[
            [(.80, ""), (.82, "loose"), (0, "rejected"), (.84, "")], [(.7, ""), (.7, "")]]),
    "kl_and_soft_rows": dict(doc="Soft rows in mid-prompt become placeholders; each token pays for its own divergence.",
        beta=0.1, rejected=0.5, loose=0.25, soft=2, groups=[[(.80, ""), (.83, "")], [(.75, ""), (.74, "")]]),
    "single": dict(doc="One usable alternative and no critic: its advantage is zero but for the penalties.",
        beta=0.05, rejected=0.5, loose=0.25, groups=[[(.9, ""), (0, "rejected")], [(.5, "")]]),
}
VOCAB, PLACEHOLDER = 50, 7


def numbers(xs):
    return ",".join(repr(x) for x in xs)


def build(name, case):
    lines = [f"# {case['doc']}", f"settings beta={case['beta']} rejected={case['rejected']} loose={case['loose']} "
             f"vocab={VOCAB} placeholder={PLACEHOLDER} soft={case.get('soft', 0)}"]
    texts, serial = [], 0
    for g, group in enumerate(case["groups"]):
        lines.append("group")
        for reward, flag in group:
            serial += 1
            prompt = [1, 2] + [VOCAB] * case.get("soft", 0) + [3 + g]
            tokens = [10 + serial, 20 + serial, 2][: 2 + serial % 2]
            logp = [round(-.5 - .1 * ((serial * 3 + k) % 7), 3) for k in range(len(tokens))]
            ref = [round(lp - .2 + .15 * ((serial + k) % 4), 3) for k, lp in enumerate(logp)]
            lines.append(f"text reward={reward} prompt={numbers(prompt)} tokens={numbers(tokens)} logp={numbers(logp)} ref={numbers(ref)} flag={flag or '-'}")
            texts.append(dict(g=g, r=reward, flag=flag, prompt=prompt, tokens=tokens, logp=logp, ref=ref))
    raw = []
    for t in texts:
        others = [o["r"] for o in texts if o["g"] == t["g"] and o is not t and o["flag"] != "rejected"]
        raw.append(None if t["flag"] == "rejected" or not others else t["r"] - sum(others) / len(others))
    used = [a for a in raw if a is not None]
    scale = math.sqrt(sum(a * a for a in used) / len(used)) if used else 0.0
    pen = [{"rejected": case["rejected"], "loose": case["loose"]}.get(t["flag"], 0.0) for t in texts]
    adv = [(0.0 if a is None else max(-5, min(5, a / max(scale, 1e-6)))) - (p - sum(pen) / len(pen)) for a, p in zip(raw, pen)]
    lines.append(f"want scale={scale!r}")
    for t, a in zip(texts, adv):
        per_token = [a - case["beta"] * (lp - rf) for lp, rf in zip(t["logp"], t["ref"])]
        seq = [PLACEHOLDER if i >= VOCAB else i for i in t["prompt"]] + t["tokens"]
        pad = [0.0] * (len(t["prompt"]) - 1)
        pos = [i for i, x in enumerate(t["prompt"]) if x >= VOCAB]
        lines.append(f"want advantage={a!r} tokens={numbers(seq[:-1])} targets={numbers(seq[1:])} "
                     f"logprobs={numbers(pad + t['logp'])} advantages={numbers(pad + per_token)} positions={numbers(pos) or '-'}")
    return "\n".join(lines) + "\n"


for name, case in CASES.items():
    with open(f"{sys.argv[1]}/{name}.ppo", "w") as f:
        f.write(build(name, case))
