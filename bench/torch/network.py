"""The recommender's network (recommender/network.go) in PyTorch's eager mode: same weights, inputs, dropout, losses and optimiser settings.

    network.py FOLDER

FOLDER is what bench/torch -network writes: weights, manifest, inputs per record and our predictions. The program checks that it predicts the
same, then answers commands from stdin, one line each: "train" and "predict" pass once over all records and answer with records, wall seconds and
CPU seconds. Inputs are tensors in memory, standardised and encoded beforehand; a batch is taken from them by index.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

folder = Path(sys.argv[1])
manifest = json.loads((folder / "model" / "manifest.json").read_text())
setting = manifest["settings"]
sizes = json.loads((folder / "sizes.json").read_text())
DIM, HEADS, HISTORY, BATCH = setting["dim"], setting["heads"], setting["history"], setting["batch"]


def read(name, dtype, *shape):
    return torch.from_numpy(np.fromfile(folder / name, dtype=dtype).reshape(shape))


def weights():
    raw = (folder / "model" / "model.safetensors").read_bytes()
    n = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8 : 8 + n])
    for name, info in head.items():
        if name != "__metadata__":
            a, b = info["data_offsets"]
            yield name, torch.from_numpy(np.frombuffer(raw[8 + n + a : 8 + n + b], dtype="<f4").reshape(info["shape"]).copy())


def standardise(x, scale):
    mean, sd = torch.tensor(scale["mean"]), torch.tensor(scale["sd"])
    return ((x - mean) / sd).clamp(-4, 4)


def encode(x, edges):
    columns = []
    for c, e in enumerate(edges):
        e = torch.tensor(e)
        columns.append(((x[:, c : c + 1] - e[:-1]) / (e[1:] - e[:-1])).clamp(0, 1) - 0.5)
    return torch.cat(columns, 1)


class Data:
    def __init__(self):
        r, f, a = sizes["records"], sizes["features"], sizes["around"]
        raw = read("features.f32", "<f4", r, f)
        self.features = standardise(raw, manifest["feature_scale"])
        self.bins = encode(raw, manifest["feature_bins"]["edges"])
        self.around = standardise(read("around.f32", "<f4", r, a), manifest["text_scale"]) if a else torch.zeros(r, 0)
        self.base, self.y = read("base.f32", "<f4", r), read("labels.f32", "<f4", r)
        self.users, self.items = read("users.i64", "<i8", r), read("items.i64", "<i8", r)
        self.length = read("lengths.i64", "<i8", r)
        self.history, self.ratings = read("history.i64", "<i8", r, HISTORY), read("ratings.i64", "<i8", r, HISTORY)
        self.text = manifest["explanation_dim"]
        if self.text:
            self.vectors = standardise(read("vectors.f32", "<f4", -1, self.text), manifest["explanation_scale"])
            self.which = read("explanations.i64", "<i8", r, 2)

    def batch(self, at):
        length = self.length[at]
        l = max(1, int(length.max()))
        b = {k: getattr(self, k)[at] for k in ("features", "bins", "around", "base", "y", "users", "items")}
        b["history"], b["ratings"], b["length"] = self.history[at, :l], self.ratings[at, :l], length
        if self.text:
            which = self.which[at]
            b["has"] = (which >= 0).float().unsqueeze(-1)
            b["texts"] = self.vectors[which.clamp(min=0)] * b["has"]
        return b


class Network(nn.Module):
    def __init__(self, named, sparse):
        super().__init__()
        self.users = nn.Embedding.from_pretrained(named.pop("consumer"), freeze=False, sparse=sparse)
        self.items = nn.Embedding.from_pretrained(named.pop("product"), freeze=False, sparse=sparse)
        self.w = {name: nn.Parameter(v) for name, v in named.items()}

    def p(self, name):
        return self.w[name]

    def linear(self, x, name):
        return F.linear(x, self.p(name + ".weight"), self.p(name + ".bias"))

    def norm(self, x, name):
        return F.layer_norm(x, (DIM,), self.p(name + ".weight"), self.p(name + ".bias"), 1e-5)

    def drop(self, x, p):
        return F.dropout(x, p, self.training)

    def leave_out(self, x, share):
        if not self.training or share == 0:
            return x
        return x * (torch.rand(x.shape[0], *[1] * (x.dim() - 1)) >= share)

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], HEADS, DIM // HEADS).transpose(1, 2)

    def head(self, x, name):
        h = self.drop(F.relu(self.linear(x, name + ".0")), setting["dropout"])
        h = self.drop(F.relu(self.linear(h, name + ".1")), setting["dropout"])
        return self.linear(h, name + ".2").flatten()

    def sequence(self, b):
        n, l = b["history"].shape
        present = torch.arange(l) < b["length"].unsqueeze(1).clamp(min=1)
        x = self.items(b["history"]) + F.embedding(b["ratings"], self.p("seq.rating")) + self.p("seq.position")[:l]
        last = x[:, :1]
        q, k, v = self.heads(self.linear(last, "seq.q")), self.heads(self.linear(x, "seq.k")), self.heads(self.linear(x, "seq.v"))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=present.view(n, 1, 1, l))
        h = self.norm(last + self.linear(mixed.transpose(1, 2).reshape(n, 1, DIM), "seq.o"), "seq.norm1")
        h = self.norm(h + self.linear(F.relu(self.linear(h, "seq.ffn1")), "seq.ffn2"), "seq.norm2")
        return torch.where(b["length"].unsqueeze(1) > 0, h.view(n, DIM), self.p("seq.empty"))

    def forward(self, b):
        p = setting["input_dropout"]
        consumer, product, n = self.users(b["users"]), self.items(b["items"]), len(b["users"])
        tokens = []
        if "texts" in b:
            texts = self.linear(self.drop(b["texts"], p), "text") * b["has"]
            tokens += self.leave_out(texts, setting["no_text"]).unbind(1)
        tokens += [consumer, product, self.leave_out(self.sequence(b), setting["no_sequence"])]
        tokens.append(self.linear(self.drop(torch.cat([b["features"], b["around"]], 1), p), "context"))
        x = torch.stack(tokens, 1) + self.p("type")[-len(tokens) :]
        q, k, v = (self.heads(self.linear(x, "attention." + c)) for c in "qkv")
        alpha = torch.softmax(q @ k.transpose(-1, -2) / (DIM // HEADS) ** 0.5, -1)  # the weights are asked for
        z = self.linear((alpha @ v).transpose(1, 2).reshape(x.shape), "attention.o")
        z = self.norm(z + x if setting["residual"] else z, "attention.norm")
        y = self.head(z.reshape(n, -1), "mlp") + self.head(self.drop(torch.cat([b["bins"], b["around"]], 1), p), "direct")
        ids = (consumer.square().sum() + product.square().sum()) / n
        return y + b["base"], alpha, ids

    def log_variance(self, b):
        h = F.relu(self.linear(torch.cat([b["features"], b["around"], b["base"].unsqueeze(1)], 1), "spread.0"))
        return self.linear(h, "spread.1").flatten().clamp(-12, 2)


class Trainer:
    def __init__(self, net, data, sparse):
        self.net, self.data = net, data
        tables, rest = list(net.users.parameters()) + list(net.items.parameters()), list(net.w.values())
        lr = setting["lr"]
        if sparse:
            self.optimisers = [torch.optim.SparseAdam(tables, lr=lr), torch.optim.AdamW(rest, lr=lr, weight_decay=setting["weight_decay"])]
        else:
            self.optimisers = [torch.optim.AdamW([{"params": rest}, {"params": tables, "weight_decay": 0}], lr=lr, weight_decay=setting["weight_decay"])]
        self.tables, self.rest, self.sparse = tables, rest, sparse

    def clip(self):
        if not self.sparse:
            torch.nn.utils.clip_grad_norm_(self.tables + self.rest, setting["clip"])
            return
        for t in self.tables:  # the rows of a batch occur several times
            t.grad = t.grad.coalesce()
        grads = [t.grad._values() for t in self.tables] + [p.grad for p in self.rest if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        torch._foreach_mul_(grads, (setting["clip"] / (norm + 1e-6)).clamp(max=1))

    def epoch(self):
        self.net.train()
        for at in torch.randperm(sizes["records"]).split(BATCH):
            b = self.data.batch(at)
            for o in self.optimisers:
                o.zero_grad()
            y, _, ids = self.net(b)
            lv = self.net.log_variance(b)
            spread = 0.5 * (lv + (y.detach() - b["y"]).square() * torch.exp(-lv)).mean()
            loss = F.mse_loss(y, b["y"])
            (loss + setting["id_l2"] * ids + 0.01 * spread).backward()
            self.clip()
            for o in self.optimisers:
                o.step()
            loss.item()

    def predict(self):
        self.net.eval()
        ys = []
        with torch.no_grad():
            for at in torch.arange(sizes["records"]).split(2048):
                b = self.data.batch(at)
                y, alpha, _ = self.net(b)
                torch.exp(0.5 * self.net.log_variance(b)) * manifest["sd_scale"]
                alpha.mean(1).mean(1)
                ys.append(y.clamp(0, 1))
        return torch.cat(ys)


def main():
    torch.manual_seed(1)
    data = Data()
    trainers = {kind: Trainer(Network(dict(weights()), kind == "sparse"), data, kind == "sparse") for kind in ("sparse", "dense")}
    off = (trainers["dense"].predict() - read("predictions.f32", "<f4", sizes["records"])).abs().max().item()
    if not off < 1e-4:
        sys.exit(f"network.py predicts up to {off} away from ours")
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, predictions within {off:.1e} of ours", flush=True)
    for line in sys.stdin:
        what, kind = line.split()
        run = trainers[kind].epoch if what == "train" else trainers[kind].predict
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        print(sizes["records"], time.perf_counter() - wall, time.process_time() - cpu, flush=True)


main()
