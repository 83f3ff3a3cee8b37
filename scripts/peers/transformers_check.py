#!/usr/bin/env python3
"""What transformers and PEFT compute, for the tests of internal/lm to compare with.

    transformers_check.py make DIR          tiny random checkpoints of every architecture below DIR, one folder each, with golden.json
    transformers_check.py read DIR ARCH     logits of DIR/ARCH/ours-adapter (through PEFT) and DIR/ARCH/ours-merged, to DIR/ARCH/read.json

golden.json: "ids", sequences of unequal length, computed as one right-padded batch; "logits" per sequence and position; the same with
rows of embeddings in place of some tokens ("soft"), with a PEFT adapter ("lora") and with both ("both"); and the gradients of a weighted
sum of log probabilities in the adapter's weights and the rows ("grads", "soft_grads").
"""
import json
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

VOCAB = 97
BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=44, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=128,
            bos_token_id=1, eos_token_id=2, pad_token_id=0, attention_dropout=0.0)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32, rope_theta=500000.0)
ATTN = ["q_proj", "k_proj", "v_proj", "o_proj"]
ARCHS = {
    "gpt2": (transformers.GPT2Config(vocab_size=VOCAB, n_positions=128, n_embd=32, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2),
             ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]),
    "llama-2": (transformers.LlamaConfig(**BASE), ATTN + ["gate_proj", "up_proj", "down_proj"]),
    "llama-3": (transformers.LlamaConfig(**BASE | dict(num_key_value_heads=2, rms_norm_eps=1e-5, rope_parameters=dict(rope_type="default", rope_theta=500000.0))), ATTN),
    "llama-3.1": (transformers.LlamaConfig(**BASE | dict(num_key_value_heads=2, rope_parameters=LLAMA3)), ATTN),
    "vicuna": (transformers.LlamaConfig(**BASE | dict(rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=10000.0))), ["q_proj", "v_proj"]),
    "qwen2": (transformers.Qwen2Config(**BASE | dict(num_key_value_heads=2, tie_word_embeddings=True, use_sliding_window=False)), ATTN),
    "mistral": (transformers.MistralConfig(**BASE | dict(num_key_value_heads=2, head_dim=16, sliding_window=64)), ATTN + ["up_proj"]),
    "mixtral": (transformers.MixtralConfig(**BASE | dict(num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, sliding_window=None)), ATTN),
}
LENGTHS, SOFT_AT, SOFT_ROWS = [31, 19, 40], 3, 2


def disturb(params, scale, gen):
    """Larger than initial weights, so that every part matters."""
    with torch.no_grad():
        for p in params:
            p.add_(torch.randn(p.shape, generator=gen) * scale)


def padded(ids):
    width = max(map(len, ids))
    batch = torch.tensor([s + [0] * (width - len(s)) for s in ids])
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in ids])
    return batch, mask


def logits(model, ids, rows=None):
    """[sequence][position][vocabulary], and the tensor itself."""
    batch, mask = padded(ids)
    if rows is None:
        out = model(input_ids=batch, attention_mask=mask).logits
    else:
        embeds = model.get_input_embeddings()(batch)
        embeds = torch.cat([embeds[:, :SOFT_AT], rows, embeds[:, SOFT_AT + SOFT_ROWS:]], 1)
        out = model(inputs_embeds=embeds, attention_mask=mask).logits
    return [out[i, :len(s)].tolist() for i, s in enumerate(ids)], out


def make(root):
    for name, (cfg, modules) in ARCHS.items():
        gen = torch.Generator().manual_seed(sum(map(ord, name)))
        torch.manual_seed(3)
        model = transformers.AutoModelForCausalLM.from_config(cfg, attn_implementation="eager").eval()
        disturb(model.parameters(), 0.15, gen)
        dir = os.path.join(root, name)
        model.save_pretrained(dir, max_shard_size="40KB" if name != "llama-2" else "1GB")
        ids = [torch.randint(3, VOCAB, (n,), generator=gen).tolist() for n in LENGTHS]
        rows = torch.randn(len(ids), SOFT_ROWS, model.config.hidden_size, generator=gen) * 0.3
        with torch.no_grad():
            golden = {"ids": ids, "soft_at": SOFT_AT, "rows": rows.tolist(), "logits": logits(model, ids)[0], "soft": logits(model, ids, rows)[0]}
        tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=10, target_modules=modules, task_type="CAUSAL_LM", fan_in_fan_out=name == "gpt2"))
        disturb([p for n, p in tuned.named_parameters() if "lora_" in n], 0.1, gen)
        tuned.eval().save_pretrained(os.path.join(dir, "adapter"))
        with torch.no_grad():
            golden["lora"] = logits(tuned, ids)[0]
        rows.requires_grad_()
        golden["both"], out = logits(tuned, ids, rows)
        weights, loss = [], 0.0
        for i, s in enumerate(ids):
            w = torch.randn(len(s) - 1, generator=gen)
            weights.append(w.tolist())
            lp = torch.log_softmax(out[i, :len(s) - 1], -1).gather(1, torch.tensor(s[1:])[:, None])[:, 0]
            loss = loss - (w * lp).sum()
        loss.backward()
        golden |= {"weights": weights, "loss": loss.item(), "soft_grads": rows.grad.tolist(), "grads": {
            n.replace(".default", ""): p.grad.tolist() for n, p in tuned.named_parameters() if p.grad is not None and "lora_" in n}}
        with open(os.path.join(dir, "golden.json"), "w") as f:
            json.dump(golden, f)


def read(root, name):
    dir = os.path.join(root, name)
    with open(os.path.join(dir, "golden.json")) as f:
        ids = json.load(f)["ids"]
    base = transformers.AutoModelForCausalLM.from_pretrained(dir, dtype=torch.float32, attn_implementation="eager").eval()
    merged = transformers.AutoModelForCausalLM.from_pretrained(os.path.join(dir, "ours-merged"), dtype=torch.float32, attn_implementation="eager").eval()
    tuned = PeftModel.from_pretrained(base, os.path.join(dir, "ours-adapter")).eval()
    with torch.no_grad(), open(os.path.join(dir, "read.json"), "w") as f:
        json.dump({"adapter": logits(tuned, ids)[0], "merged": logits(merged, ids)[0]}, f)


if sys.argv[1] == "make":
    make(sys.argv[2])
else:
    for name in sys.argv[3:]:
        read(sys.argv[2], name)
