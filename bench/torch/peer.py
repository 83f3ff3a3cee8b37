"""The PyTorch side of the benchmark: the same cases as cases.go, in eager mode.

Takes the seconds per case on the command line, reads names of cases and answers each with one line,
the CPU microseconds of its best repetition. The Go side starts it and asks for one case at a time.
"""

import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
torch.manual_seed(1)


def step(loss_of, params, fused):
    opt = torch.optim.Adam(params, lr=1e-3, fused=fused)

    def run():
        opt.zero_grad()
        loss = loss_of()
        loss.backward()
        opt.step()

    return run


def mlp(fused):
    """A perceptron over two embeddings, 512k weights, batch 256: the form of the recommender's step."""
    table = torch.randn(7000, 64, requires_grad=True)
    w1 = torch.randn(256, 128, requires_grad=True)
    w2 = torch.randn(128, 256, requires_grad=True)
    w3 = torch.randn(1, 128, requires_grad=True)
    ids = torch.arange(256) * 25 % 7000
    y = torch.rand(256)

    def loss():
        x = torch.cat([F.embedding(ids, table), F.embedding(ids + 1, table)], 1)
        h = F.relu(F.linear(F.relu(F.linear(x, w1)), w2))
        return F.mse_loss(F.linear(h, w3).squeeze(1), y)

    return step(loss, [table, w1, w2, w3], fused)


def sparse(rows, stride):
    """An embedding table updated by SparseAdam, the rest by Adam."""
    table = torch.nn.Embedding(rows, 64, sparse=True)
    w = torch.randn(1, 64, requires_grad=True)
    ids = torch.arange(256) * stride
    dense, lazy = torch.optim.Adam([w], lr=1e-3), torch.optim.SparseAdam(table.parameters(), lr=1e-3)

    def run():
        dense.zero_grad()
        lazy.zero_grad()
        F.linear(table(ids), w).square().mean().backward()
        dense.step()
        lazy.step()

    return run


def cases():
    a, b = torch.randn(8, 8), torch.randn(8, 8)
    m, n = torch.randn(256, 256), torch.randn(256, 256)
    x, wt = torch.randn(24, 32), torch.randn(32, 32)
    ln, lw = torch.randn(64, 256), torch.ones(256)
    q = torch.randn(8, 8, 160, 32)
    qg = [torch.randn(8, 8, 160, 32, requires_grad=True) for _ in range(3)]
    logits, targets = torch.randn(256, 8192), torch.arange(256)
    table, ids = torch.randn(5000, 64), torch.arange(1024)

    def no_grad(f):
        def run():
            with torch.no_grad():
                f()

        return run

    def attention_backward():
        for t in qg:
            t.grad = None
        F.scaled_dot_product_attention(*qg, is_causal=True).sum().backward()

    return {
        "add 8x8": no_grad(lambda: a + b),
        "matmul 8x8": no_grad(lambda: a @ b),
        "matmul 256x256": no_grad(lambda: m @ n),
        "linear 24x32": no_grad(lambda: F.linear(x, wt)),
        "layer norm 64x256": no_grad(lambda: F.layer_norm(ln, (256,), lw)),
        "gelu 64x256": no_grad(lambda: F.gelu(ln, approximate="tanh")),
        "softmax 64x256": no_grad(lambda: torch.softmax(ln, -1)),
        "embedding 1024 rows": no_grad(lambda: F.embedding(ids, table)),
        "attention 8x8x160x32 causal": no_grad(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True)),
        "attention with backward": attention_backward,
        "log prob 256x8192": no_grad(lambda: -F.cross_entropy(logits, targets, reduction="none")),
        "train step, 512k weights": mlp(False),
        "train step, peer with fused Adam": mlp(True),
        "train step, table of 5k rows": sparse(5000, 19),
        "train step, table of 500k rows": sparse(500_000, 1953),
    }


def main():
    seconds = float(sys.argv[1])
    all_cases = cases()
    print(f"PyTorch {torch.__version__}", flush=True)
    for name in sys.stdin:  # one name per line; the answer follows it
        run = all_cases[name.rstrip("\n")]
        run()
        best, end = float("inf"), time.perf_counter() + seconds
        loops = 1
        while time.perf_counter() < end:
            start = time.process_time()
            for _ in range(loops):
                run()
            took = time.process_time() - start
            best = min(best, took / loops)
            if took < 0.01:
                loops *= 2
        print(f"{best * 1e6:.3f}", flush=True)


main()
