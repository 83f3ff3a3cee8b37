#!/usr/bin/env python3
"""The reference file of internal/safetensors, made with Python safetensors 0.8.0 and numpy.

    tokenizer_safetensors.py            writes internal/safetensors/testdata/reference.safetensors
    tokenizer_safetensors.py FILE       prints what Python reads from FILE
"""
import os, sys
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../internal/safetensors/testdata")
if len(sys.argv) > 1:
    with safe_open(sys.argv[1], "np") as f:
        print(f.metadata())
        for k in f.keys():
            t = f.get_tensor(k)
            print(k, t.dtype, t.shape, t.reshape(-1)[:6])
else:
    os.makedirs(OUT, exist_ok=True)
    save_file({"w": np.arange(6, dtype=np.float32).reshape(2, 3) / 4, "ids": np.array([-1, 2**40, 7], np.int64), "half": np.array([1.5, -65504, 6e-8, 0], np.float16),
               "flag": np.array([True, False, True]), "double": np.array(np.pi), "empty": np.zeros((0, 4), np.float32), "naïve \"q\"": np.array([[1]], np.int32)},
              os.path.join(OUT, "reference.safetensors"), metadata={"format": "pt"})
