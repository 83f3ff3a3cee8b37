"""The Python side of the benchmark: batched generation by transformers or vLLM, and PPO updates by PyTorch with PEFT.

    peer.py transformers|vllm|peft MODEL THREADS

Reads one JSON object per line, {"prompts": [[id, ...], ...], "new": n} or for peft {"data": [...]}, and answers each with one line
{"seconds": s, "tokens": n, "rss_mb": m}. The first line it writes is its name and version.
"""
import json
import os
import resource
import sys
import time

kind, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever libraries print
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS=str(threads), DO_NOT_TRACK="1", VLLM_NO_USAGE_STATS="1",
                  VLLM_CPU_KVCACHE_SPACE="2", VLLM_TARGET_DEVICE="cpu", VLLM_HOST_IP="127.0.0.1", GLOO_SOCKET_IFNAME="lo",
                  VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_LOGGING_LEVEL="ERROR", TORCHDYNAMO_DISABLE="1", CUDA_VISIBLE_DEVICES="",
                  VLLM_ENABLE_V1_MULTIPROCESSING="0")


def transformers_side():
    import torch
    import transformers
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    lm = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def generate(r):
        ids = torch.tensor(r["prompts"])  # equal lengths: nothing is padded
        with torch.no_grad():
            got = lm.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=r["new"], min_new_tokens=r["new"], do_sample=True, top_k=0, top_p=1.0,
                              temperature=1.0, pad_token_id=0)
        return int(got.shape[0] * (got.shape[1] - ids.shape[1]))

    return f"transformers {transformers.__version__}", generate


def vllm_side():
    import vllm
    lm = vllm.LLM(model=model, skip_tokenizer_init=True, dtype="float32", enforce_eager=True, max_num_seqs=64, max_model_len=512, seed=1,
                  enable_prefix_caching=True, disable_log_stats=True)

    def generate(r):
        lm.reset_prefix_cache()  # every turn begins with an empty cache, as ours does
        params = vllm.SamplingParams(max_tokens=r["new"], min_tokens=r["new"], ignore_eos=True, temperature=1.0, detokenize=False)
        got = lm.generate([{"prompt_token_ids": p} for p in r["prompts"]], params, use_tqdm=False)
        return sum(len(g.outputs[0].token_ids) for g in got)

    return f"vLLM {vllm.__version__}", generate


def peft_side():
    import peft
    import torch
    import transformers
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    gpt = base.config.model_type == "gpt2"
    lm = peft.get_peft_model(base, peft.LoraConfig(r=16, lora_alpha=32, target_modules=["c_attn", "attn.c_proj"] if gpt else ["q_proj", "k_proj", "v_proj", "o_proj"],
                                                   task_type="CAUSAL_LM", fan_in_fan_out=gpt))
    opt = torch.optim.AdamW([p for p in lm.parameters() if p.requires_grad], lr=1e-5)

    def update(r):
        """One pass over the data in minibatches, as TRL does it: logits of the completion alone, one backward each, one step."""
        ids, first = torch.tensor(r["prompts"]), r["first"]
        adv, old = torch.tensor(r["advantages"]), torch.tensor(r["logprobs"])
        for i in range(0, len(ids), r["minibatch"]):
            part = slice(i, i + r["minibatch"])
            x = ids[part]
            logits = lm(input_ids=x[:, :-1], logits_to_keep=x.shape[1] - first).logits
            lp = torch.log_softmax(logits, -1).gather(2, x[:, first:, None])[..., 0]
            ratio = torch.exp(lp - old[part])
            a = adv[part][:, None]
            loss = -torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a).sum()
            loss.backward()
        opt.step()
        opt.zero_grad()
        return int(ids.numel())

    return f"PyTorch {torch.__version__} with PEFT {peft.__version__}", update


name, work = {"transformers": transformers_side, "vllm": vllm_side, "peft": peft_side}[kind]()
print(json.dumps({"name": name}), file=out)
for line in sys.stdin:
    request = json.loads(line)
    t0 = time.perf_counter()
    tokens = work(request)
    print(json.dumps({"seconds": time.perf_counter() - t0, "tokens": tokens,
                      "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), file=out)
