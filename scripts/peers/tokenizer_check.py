#!/usr/bin/env python3
"""Many thousand lines through transformers' fast tokenizers of every family, for internal/tokenizer to give the same ids.

    tokenizer_check.py OUT [MINILM_TOKENIZER_JSON]

Writes OUT/lines.json and for each family OUT/NAME/tokenizer.json with OUT/NAME/ids.json: {"ids", "plain", "decoded"}. The vocabularies are trained
here with the package tokenizers, in the families' own layouts (no weights and no vocabularies are fetched); the encoder's is the real one.
"""
import importlib.util
import json
import os
import random
import sys
import unicodedata

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

here = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("golden", os.path.join(here, "../reference/tokenizer_golden.py"))
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)

LINES = 12_000
EMOJI = ["👍", "👍🏽", "👩‍🚀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇫🇷🇯🇵", "1️⃣", "☕️", "❤️‍🔥", "🫠", "🧑🏿‍🤝‍🧑🏻", "😀😀😀", "⭐⭐⭐⭐⭐", "🎬", "🎸🔥"]
SCRIPTS = [(0x20, 0x7f), (0xa1, 0x250), (0x250, 0x2b0), (0x370, 0x400), (0x400, 0x530), (0x531, 0x590), (0x591, 0x5f5), (0x600, 0x6ff), (0x900, 0x980), (0x980, 0xa00),
           (0xa00, 0xb00), (0xb80, 0xc00), (0xc80, 0xd00), (0xe01, 0xe5c), (0xe80, 0xee0), (0xf00, 0xfd0), (0x1000, 0x1060), (0x10a0, 0x1100), (0x1100, 0x1200), (0x1200, 0x1380),
           (0x13a0, 0x1400), (0x1780, 0x17ea), (0x1e00, 0x2000), (0x2000, 0x2070), (0x20a0, 0x20b2), (0x2100, 0x2190), (0x2190, 0x2400), (0x2460, 0x2600), (0x2600, 0x2700),
           (0x3000, 0x3100), (0x3105, 0x312d), (0x3131, 0x318f), (0x4e00, 0x9fa6), (0xac00, 0xd7a4), (0xf900, 0xfa2e), (0xfb00, 0xfb50), (0xff00, 0xffe7), (0x10300, 0x10324), (0x1d400, 0x1d7ff)]
# Characters that Unicode 3.2 and today's agree on: how later ones split is a question of the table's age, not of the tokenizer.
CHARS = [block for block in [[chr(c) for c in range(*block) if unicodedata.ucd_3_2_0.category(chr(c)) == unicodedata.category(chr(c)) != "Cn"] for block in SCRIPTS] if block]
JOINTS = [" ", " ", " ", "", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "...", "-", "'s ", "'RE ", ", ", "\n\n  ", "   "]


def word(r):
    block = r.choice(CHARS)
    return "".join(r.choice(block) for _ in range(r.randrange(1, 9)))


def line(r):
    parts = []
    for _ in range(r.randrange(1, 9)):
        parts.append(r.choice([word, word, word, lambda r: golden.sentence(r), lambda r: r.choice(golden.WORLD), lambda r: r.choice(EMOJI), lambda r: str(r.randrange(10 ** r.randrange(1, 12))),
                               lambda r: r.choice(golden.ADDED), lambda r: chr(r.randrange(1, 32)), lambda r: r.choice("eaoun") + "".join(chr(r.randrange(0x300, 0x345)) for _ in range(r.randrange(1, 4)))])(r))
        parts.append(r.choice(JOINTS))
    return "".join(parts)


def main(out, minilm=None):
    r = random.Random(20)
    texts = list(dict.fromkeys(golden.lines() + EMOJI))
    seen = set(texts)
    while len(texts) < LINES:
        if (t := line(r)) not in seen:
            seen.add(t)
            texts.append(t)
    train = golden.corpus() + [line(r) for _ in range(3000)]
    base = {"bytes": golden.train_bytes(train, 3000), "chars": golden.train_chars(train, 3000)}
    os.makedirs(out)
    dump(os.path.join(out, "lines.json"), texts)
    files = {}
    for kind, change in {k: v for k, v in styles(base).items()}.items():
        files[kind] = change
    if minilm:
        files["bert"] = open(minilm, encoding="utf-8").read()
    for name, text in files.items():
        folder = os.path.join(out, name)
        os.makedirs(folder)
        path = os.path.join(folder, "tokenizer.json")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        tok, raw = PreTrainedTokenizerFast(tokenizer_file=path), Tokenizer.from_str(text)
        raw.no_padding()
        raw.no_truncation()
        ids = tok(texts, padding=False, truncation=False)["input_ids"]
        dump(os.path.join(folder, "ids.json"), {"ids": ids, "plain": tok(texts, add_special_tokens=False, padding=False, truncation=False)["input_ids"],
                                                "decoded": [raw.decode(i, skip_special_tokens=True) for i in ids]})
        print(f"{name}: {len(texts)} lines, {sum(map(len, ids))} ids of {len(set(i for row in ids for i in row))} kinds")


def styles(base):
    out = {}
    for kind in base:
        n = len(base[kind]["model"]["vocab"])
        for name, (of, change) in golden.styles(n, base[kind]).items():
            if of != kind:
                continue
            d = json.loads(json.dumps(base[kind]))
            for k, v in change.items():
                if k == "ignore_merges":
                    d["model"][k] = v
                else:
                    d[k] = v
            out[name] = json.dumps(d, ensure_ascii=False)
    return out


def dump(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f)


main(*sys.argv[1:])
