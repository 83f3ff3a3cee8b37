#!/usr/bin/env python3
"""Golden vectors for the architectures of recommender/encoder.

Writes recommender/encoder/testdata/tiny.json: sentence vectors (mean of the last states, and the first state, both scaled to length 1) that
transformers computes with tiny models whose weights follow a formula, so that the test makes the same ones. Made with Debian's
python3-torch 1.13.1 and transformers 4.40.2:

    encoder_tiny.py OUTPUT
"""
import json, math, sys, zlib

import numpy, torch, transformers
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

VOCAB, DIM, LAYERS, HEADS, INNER, POSITIONS = 40, 24, 3, 4, 56, 20
TEXTS = [[1, 2], [1, 7, 2], [1, 10, 11, 12, 39, 2], [1] + list(range(5, 23)) + [2], [1, 8, 8, 8, 2]]


def fill(model):
    """Value i of a tensor is sin((i + 1) * 0.37 + phase) by the CRC of its name: 0.3 of it for weights, 1 + 0.2 of it for norms."""
    state = model.state_dict()
    for name, tensor in state.items():
        if not tensor.dtype.is_floating_point:
            continue
        phase = zlib.crc32(name.encode()) % 1000
        values = [math.sin((i + 1) * 0.37 + phase) for i in range(tensor.numel())]
        norm = "norm" in name.lower() and name.endswith("weight")
        values = [1 + 0.2 * v if norm else 0.3 * v for v in values]
        state[name] = torch.tensor(values, dtype=torch.float32).reshape(tensor.shape)
    model.load_state_dict(state)
    return model.eval()


def vectors(model):
    mean, first = [], []
    with torch.no_grad():
        for ids in TEXTS:
            last = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).last_hidden_state[0].double().numpy()
            for out, v in ((mean, last.mean(0)), (first, last[0])):
                out.append([float("%.9g" % x) for x in v / numpy.linalg.norm(v)])
    return {"mean": mean, "cls": first}


def main(output):
    distil = DistilBertModel(DistilBertConfig(vocab_size=VOCAB, dim=DIM, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER, max_position_embeddings=POSITIONS))
    bert = BertModel(BertConfig(vocab_size=VOCAB, hidden_size=DIM, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER,
                                max_position_embeddings=POSITIONS, type_vocab_size=3))
    data = {"made_with": {"torch": torch.__version__, "transformers": transformers.__version__}, "ids": TEXTS,
            "models": {"distilbert": vectors(fill(distil)), "bert": vectors(fill(bert))}}
    with open(output, "w") as f:
        json.dump(data, f)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
