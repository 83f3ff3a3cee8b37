#!/usr/bin/env python3
"""Reference ids for internal/tokenizer, made with Python tokenizers 0.23.3.

    tokenizer_golden.py [MINILM_TOKENIZER_JSON]      writes internal/tokenizer/testdata

Everything is derived from seeds here, so a second run writes the same files.
"""
import json, os, random, sys
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../internal/tokenizer/testdata")
SPECIAL = ["<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

SUBJECTS = ["The guitar", "This cable", "The plot", "Her acting", "The hotel room", "Our breakfast", "The staff", "That pedal",
            "The soundtrack", "It", "The camera work", "My son's amplifier", "The third act", "Every string", "The view", "Service"]
VERBS = ["is", "was", "isn't", "sounds", "feels", "looks", "won't be", "turned out", "stays", "could've been", "remains", "seemed"]
ADJ = ["surprisingly warm", "cheap", "rather dull", "excellent", "too loud", "well made", "predictable", "charming", "noisy", "solid",
       "overpriced", "worth 4.5 stars", "better than the 1999 version", "clean", "unforgettable", "a bit slow", "quite comfortable"]
TAILS = ["for the price", "and arrived in 2 days", "but the ending disappoints", "although we'd paid $120", "so I'm returning it",
         "because the director never lets go", "and you'll love it", "with no hum at all", "near the old town", "at 7:30 in the morning"]

def sentence(r):
    s = f"{r.choice(SUBJECTS)} {r.choice(VERBS)} {r.choice(ADJ)}"
    if r.random() < 0.7:
        s += f" {r.choice(TAILS)}"
    return s + r.choice([".", ".", ".", "!", "?", "..."])

WORLD = ["naïve café — déjà vu", "Ünïcödé straße ẞ GROẞ", "Привет, мир! Ёлка", "日本語のテキスト、漢字とかな。", "中文评论:很好看!", "한국어 문장입니다",
         "नमस्ते दुनिया", "ภาษาไทยไม่มีช่องว่าง", "مرحبا بالعالم", "שלום עולם", "Ελληνικά ΣΊΣΥΦΟΣ", "İstanbul ılık I i", "Tiếng Việt rất đẹp",
         "👍", "👨‍👩‍👧‍👦 family", "🏳️‍🌈 flag 🇩🇪🇫🇷", "☕️ and ☕", "e\u0301 é e\u0301\u0323", "ﬁn ﬂag ﬃ", "①②③ ½ ¾ Ⅷ x² H₂O", "ſ 'ſ K Å", "１２３ ＡＢＣ", "𝒜𝓑𝔠 𝟘𝟙",
         "zero\u200bwidth\u200djoin\ufeffbom", "soft\u00adhyphen", "nbsp\u00a0here\u2003em\u3000ideographic", "line\u2028sep\u2029para\u0085nel",
         "rtl \u202eoverride\u202c", "\ue000 private \uf8ff", "\ufffd replacement", "Z̴̢a̷l̵g̶o̸", "ㄱㅏㄴ 가 각", "ꙮ 𐍈 𓀀 🂡"]
ODD = ["", " ", "  ", "   a", "a   ", "a  b   c    d", "\t", "\n", "\n\n", "\r\n", " \n ", "a\n\n  b", "a \n\t b", "\u00a0", "x\u00a0\u00a0y", "    indented\n        more",
       "tabs\tand\ttabs", "ends with newline\n", "ends with spaces   ", "\x00nul\x00", "\x07bell\x1b[31mred", "don't DON'T don’t", "'s 'S 'll 'LL 're 'Ve 'd 'M 't",
       "it''s''''s", "'tis 'twas", "I'MADE", "12345678901234567890", "1,234.56 2024-01-31 10:30", "0x1F 1e-9 3.14", "٣٤٥ 一二三", "a1b2c3", "A" * 40, "ab" * 60, "=" * 70,
       "!?!?!?...", "--- *** ###", "http://example.org/a?b=c&d=%20", "me@example.org #tag @you", "for(int i=0;i<n;i++){x[i]+=1;}", "{\"k\": [1, 2, {\"z\": null}]}",
       "<html><b>bold</b>&amp;</html>", "C:\\dir\\file", "a_b-c/d|e~f`g^h", "$5 €10 £3 ¥8 ₿", "“quotes” ‘single’ «guillemets»", "end.\nNext.\r\nLast.\rMac", "supercalifragilisticexpialidocious",
       "antidisestablishmentarianism" * 4, "unaffable un ##able [UNK] [CLS] [MASK]", "w" * 101, "w" * 100, "日" * 30]
ADDED = ["<|user|>hello<|end|><|assistant|>", "a<|eos|>", "<|bos|> <|bos|>", "<|us", "<|user|", "<|user|><|user|>", " <|end|> ", "x <|end|> y", "<|END|>",
         "left   <L> right", "left <R>   right", "<L><R>", "a <L>  <R> b", "word<W>word <W> word", "<W>", "<W>.", "_<W>", "caféd <N> cafe\u0301d", "CAFÉD café cafe\u0301", "<N>é", "<LL> <L", "<<L>>"]

def lines():
    r = random.Random(7)
    out = WORLD + ODD + ADDED
    out += [sentence(r) for _ in range(90)]
    out += [sentence(r).upper() for _ in range(6)]
    for _ in range(40):  # code points drawn from blocks that no Unicode table disputes
        blocks = [(0x20, 0x7f), (0xa0, 0x250), (0x370, 0x377), (0x400, 0x480), (0x5d0, 0x5eb), (0x905, 0x93a), (0x3041, 0x3097), (0x4e00, 0x4e80), (0x1f600, 0x1f640), (0x300, 0x345), (9, 14)]
        out.append("".join(chr(r.randrange(*r.choice(blocks))) for _ in range(r.randrange(1, 24))))
    for _ in range(40):
        out.append("".join(r.choice([" ", "  ", "\n", "\t", "\r\n", "\u00a0", "a", "B1", "'s", "'RE", "é", "7", "1234", "!", "…", "漢", "👍", "<|end|>"]) for _ in range(r.randrange(2, 16))))
    for _ in range(25):
        out.append(r.choice(WORLD) + r.choice([" ", "", "\n"]) + sentence(r))
    return out

def corpus():
    r = random.Random(11)
    text = [" ".join(sentence(r) for _ in range(r.randrange(1, 5))) for _ in range(150)]
    return text + WORLD[:13]

def train_bytes(texts, vocab):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab, min_frequency=2, special_tokens=SPECIAL, show_progress=False,
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return json.loads(tok.to_str())

def train_chars(texts, vocab):
    """The Llama 2 layout: <unk>, specials, 256 byte tokens, then characters and merges over text with spaces written as U+2581."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, show_progress=False, limit_alphabet=90))
    d = json.loads(tok.to_str())
    d["added_tokens"] = [t for t in d["added_tokens"] if t["id"] < 3]
    return d

def added(i, content, **kw):
    return dict(id=i, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False) | kw

def split(regex, behavior="Isolated"):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": False}

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}

def template(before, after=()):
    part = lambda t: {"SpecialToken": {"id": t[0], "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [part(t) for t in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [part(t) for t in after],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t[0]: {"id": t[0], "ids": [t[1]], "tokens": [t[0]]} for t in [*before, *after]}}

def styles(n, base):
    """What each style changes in its base file; n is the base's vocabulary size."""
    more = base["added_tokens"] + [added(n, "<L>", lstrip=True), added(n + 1, "<R>", rstrip=True, special=True), added(n + 2, "<W>", single_word=True),
                                   added(n + 3, "<N>é", normalized=True), added(n + 4, "<LL>")]
    sp_decoder = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                   {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return {
        "gpt2": ("bytes", {}),
        "gpt2-prefix": ("bytes", {"pre_tokenizer": BYTES | {"add_prefix_space": True, "use_regex": True},
                                  "post_processor": {"type": "RobertaProcessing", "sep": ["<|eos|>", 2], "cls": ["<|bos|>", 1], "trim_offsets": True, "add_prefix_space": True}}),
        "llama3": ("bytes", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(LLAMA3), BYTES]}, "ignore_merges": True,
                             "post_processor": {"type": "Sequence", "processors": [BYTES, template([("<|bos|>", 1)])]}}),
        "qwen2": ("bytes", {"normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(QWEN2), BYTES]}, "added_tokens": more}),
        "other-regex": ("bytes", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, split(r"[A-Za-z]+|\s+(?!\S)|[^A-Za-z]+?(?=\p{Lu})"), BYTES]},
                                  "added_tokens": more}),
        "llama2": ("chars", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
                             "pre_tokenizer": None, "decoder": sp_decoder, "post_processor": template([("<s>", 1)])}),
        "mistral": ("chars", {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}, "decoder": sp_decoder,
                              "post_processor": template([("<s>", 1)], [("</s>", 2)])}),
        "metaspace": ("chars", {"decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}}),
    }

def record(tok, texts, r):
    ids = [tok.encode(t).ids for t in texts]
    noise = [[r.randrange(tok.get_vocab_size()) for _ in range(r.randrange(1, 12))] for _ in range(40)]
    return {"ids": ids, "plain": [tok.encode(t, add_special_tokens=False).ids for t in texts[:20]],
            "decoded": [tok.decode(i, skip_special_tokens=True) for i in ids], "noise": noise,
            "noise_decoded": [tok.decode(i, skip_special_tokens=False) for i in noise]}

def write(name, obj, indent=None):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        json.dump(obj, f, ensure_ascii=True, indent=indent, separators=(",", ":"))
        f.write("\n")

def main():
    assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
    os.makedirs(OUT, exist_ok=True)
    texts, train = lines(), corpus()
    base = {"bytes": train_bytes(train, 700), "chars": train_chars(train, 800)}
    write("lines.json", texts)
    write("corpus.json", train)
    for name, b in base.items():
        write(f"base-{name}.json", b)
    n = len(base["bytes"]["model"]["vocab"])
    golden = {}
    for name, (which, change) in styles(n, base["bytes"]).items():
        d = json.loads(json.dumps(base[which]))
        for k, v in change.items():
            if k == "ignore_merges":
                d["model"][k] = v
            else:
                d[k] = v
        write(f"golden-{name}.json", {"base": which, "change": change} | record(Tokenizer.from_str(json.dumps(d)), texts, random.Random(3)))
    minilm = sys.argv[1] if len(sys.argv) > 1 else os.path.expanduser("~/.cache/recpie/minilm/tokenizer.json")
    tok = Tokenizer.from_file(minilm)
    tok.no_padding()
    tok.no_truncation()
    write("golden-minilm.json", record(tok, texts, random.Random(3)))

if __name__ == "__main__":
    main()
