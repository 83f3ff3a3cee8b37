"""Runs tinker-cookbook's own RL loop (tinker_cookbook.recipes.rl_loop) against a training server.

    cookbook_drive.py URL MODEL_FOLDER LOG_FOLDER LOSS

The recipe's problems come from a hub that is not needed here and its reward wants a model that can calculate: both are replaced through its module,
by made-up problems and by the share of vowels. Everything else is the recipe's.
"""
import os
import sys

import datasets
import datasets.fingerprint
from tinker_cookbook.recipes import rl_loop

url, model, log, loss = sys.argv[1:]
datasets.fingerprint.Hasher.hash = classmethod(lambda cls, value: os.urandom(8).hex())  # it pickles types that newer pyarrow cannot
problems = [{"question": f"A film has {a} acts and each act has {b} scenes. How many scenes are there?", "answer": f"{a}*{b} = {a * b}\n#### {a * b}"}
            for a in range(2, 8) for b in range(2, 8)]
rl_loop.datasets.load_dataset = lambda *args, **kw: datasets.DatasetDict({"train": datasets.Dataset.from_list(problems)})
rl_loop.model_info.get_recommended_renderer_name = lambda name: "role_colon"
rl_loop.get_reward = lambda response, answer: sum(c in "aeiou" for c in response) / max(1, len(response))
rl_loop.main(rl_loop.Config(base_url=url, model_name=model, log_path=log, batch_size=6, group_size=4, lora_rank=8, learning_rate=5e-3, max_tokens=24,
                            save_every=2, max_steps=6, loss_fn=loss))
