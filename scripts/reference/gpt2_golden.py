"""Writes internal/lm/testdata/gpt2: a tiny random GPT-2 in the Hugging Face layout and what transformers computes with it.

Run with Python, torch and transformers (recorded with transformers 4.40.2, torch 1.13.0):
    python scripts/reference/gpt2_golden.py internal/lm/testdata/gpt2
"""
import json, sys, torch
from transformers import GPT2Config, GPT2LMHeadModel

out = sys.argv[1]
torch.manual_seed(7)
cfg = GPT2Config(vocab_size=61, n_positions=48, n_embd=24, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2, pad_token_id=0)
model = GPT2LMHeadModel(cfg).eval()
with torch.no_grad():
    for p in model.parameters():  # larger than the initial weights, so that every part matters
        p.add_(torch.randn_like(p) * 0.15)
model.save_pretrained(out, safe_serialization=True)
ids = torch.randint(3, 61, (2, 17))
rows = torch.randn(2, 3, 24) * 0.3
with torch.no_grad():
    logits = model(ids).logits
    emb = model.transformer.wte(ids).clone()
    emb[:, 4:7] = rows
    soft = model(inputs_embeds=emb).logits
    greedy = model.generate(ids[:1], max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)[0, 17:]
json.dump({
    "ids": ids.tolist(), "logits": logits.tolist(), "soft_pos": 4, "soft_rows": rows.tolist(), "soft_logits_last": soft[:, -1].tolist(),
    "greedy": greedy.tolist(),
}, open(out + "/golden.json", "w"))
