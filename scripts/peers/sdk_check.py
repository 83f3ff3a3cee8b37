#!/usr/bin/env python3
"""Drives a training server with the official Python SDK (package tinker) and checks what it answers.

    TINKER_BASE_URL=http://127.0.0.1:PORT TINKER_API_KEY=tml-... RECPIE_SDK_BASE=tiny RECPIE_SDK_MODEL=DIR sdk_check.py

RECPIE_SDK_MODEL is the folder of the GPT-2 that the server holds (its token embeddings are read from there). One line of
JSON per check goes to stdout: {"check", "outcome": "pass" | "fail" | "skip", "detail"}. The exit status is 0 when every
check was made; what failed is for the caller to judge.
"""
import importlib.util
import json
import os
import sys
import time
import traceback
import urllib.request
import warnings

warnings.filterwarnings("ignore", category=FutureWarning)
os.environ.setdefault("TINKER_TELEMETRY", "0")

import numpy as np
import tinker
from tinker import types

BASE = os.environ["RECPIE_SDK_BASE"]
VERSION = tuple(int(x) for x in tinker.__version__.split(".")[:2])
RNG = np.random.default_rng(3)


class Skip(Exception):
    pass


def ready(client):
    """Newer SDKs return a future of the client, older ones the client."""
    return client.result() if hasattr(client, "result") else client


def close(got, want, tol, what):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, want {want.shape}"
    worst = float(np.max(np.abs(got - want))) if got.size else 0.0
    assert worst <= tol, f"{what}: off by {worst:g}, allowed {tol:g}"
    return worst


def datum(ids, **inputs):
    """Position i of ids[:-1] predicts ids[i+1]."""
    inputs = {"target_tokens": np.array(ids[1:], np.int64), **inputs}
    return types.Datum(model_input=types.ModelInput.from_ints(list(ids[:-1])), loss_fn_inputs=inputs)


def sequence(n):
    return [int(i) for i in RNG.integers(7, VOCAB, n)]


def sft(ids, prompt=3):
    w = np.ones(len(ids) - 1, np.float32)
    w[: prompt - 1] = 0
    return datum(ids, weights=w), w


def logprobs(output):
    return [np.array(o["logprobs"].data) for o in output.loss_fn_outputs]


def adam(lr=1e-2):
    return types.AdamParams(learning_rate=lr, beta1=0.9, beta2=0.95, eps=1e-8)


def trainer(seed=1, **kw):
    return ready(service.create_lora_training_client(BASE, **{"rank": 4, "seed": seed, "train_mlp": False, "train_unembed": False, **kw}))


def from_state(path, optimizer):
    if optimizer:
        return ready(service.create_training_client_from_state_with_optimizer(path))
    return ready(service.create_training_client_from_state(path))


def train(client, data, steps, lr=1e-2):
    out = []
    for _ in range(steps):
        pass_, step = client.forward_backward(data, "cross_entropy"), client.optim_step(adam(lr))
        out.append(pass_.result().metrics["loss:sum"])
        step.result()
    return out


def check_capabilities():
    models = {m.model_name: m for m in service.get_server_capabilities().supported_models}
    assert BASE in models, f"{BASE} is not among {sorted(models)}"
    return f"SDK {tinker.__version__}"


def check_unknown_base_is_refused():
    try:
        ready(service.create_lora_training_client("no/such-model", rank=4))
    except (tinker.BadRequestError, tinker.NotFoundError) as e:
        return str(e)
    raise AssertionError("an unknown base model was accepted")


def check_default_lora_is_refused_with_a_reason():
    """The SDK asks for a trained unembedding unless told otherwise; tied models cannot have one."""
    try:
        trainer(train_unembed=True)
    except tinker.TinkerError as e:
        assert "unembed" in str(e), f"the reason is not stated: {e}"
        return str(e)
    raise AssertionError("an adapter of the tied unembedding was accepted")


def check_info():
    info = shared.get_info()
    assert info.model_data.model_name == BASE and info.lora_rank == 4, info


def check_forward_equals_forward_backward():
    data = [sft(sequence(n)) for n in (9, 14, 5)]
    a = shared.forward([d for d, _ in data], "cross_entropy").result()
    b = shared.forward_backward([d for d, _ in data], "cross_entropy").result()
    for x, y in zip(logprobs(a), logprobs(b), strict=True):
        close(x, y, 1e-5, "logprobs")
    want = -sum(float(np.dot(w, lp)) for (_, w), lp in zip(data, logprobs(a), strict=True))
    close(a.metrics["loss:sum"], want, 1e-3, "loss:sum")
    shared.optim_step(adam(0)).result()


def check_optim_step_lowers_the_loss():
    client = trainer(seed=2)
    losses = train(client, [sft(sequence(12))[0] for _ in range(4)], 12)
    assert losses[-1] < 0.8 * losses[0], f"{losses[0]:.3f} → {losses[-1]:.3f}"
    return f"loss {losses[0]:.2f} -> {losses[-1]:.2f}"


def policy_loss(loss, lp, old, adv, lo=0.8, hi=1.2, beta=0.05):
    r = np.exp(lp - old)
    if loss == "importance_sampling":
        return -float(np.sum(r * adv))
    if loss == "cispo":
        return -float(np.sum(np.clip(r, lo, hi) * lp * adv))
    if loss == "dro":
        return -float(np.sum(lp * adv - beta / 2 * (lp - old) ** 2))
    return -float(np.sum(np.minimum(r * adv, np.clip(r, lo, hi) * adv)))


def check_policy_losses():
    ids = sequence(15)
    lp = logprobs(shared.forward([sft(ids)[0]], "cross_entropy").result())[0]
    old = (lp + RNG.normal(0, 0.3, lp.size)).astype(np.float32)
    adv = RNG.normal(0, 1, lp.size).astype(np.float32)
    adv[:4] = 0
    narrow = {"clip_low_threshold": 0.9, "clip_high_threshold": 1.05}
    for loss, cfg in (("ppo", None), ("ppo", narrow), ("importance_sampling", None), ("cispo", None), ("cispo", narrow), ("dro", {"beta": 0.5})):
        out = shared.forward_backward([datum(ids, logprobs=old, advantages=adv)], loss, cfg).result()
        lo, hi = (cfg["clip_low_threshold"], cfg["clip_high_threshold"]) if cfg is narrow else (0.0, 4.0) if loss == "cispo" else (0.8, 1.2)
        close(out.metrics["loss:sum"], policy_loss(loss, lp, old, adv, lo, hi, 0.5), 1e-3, f"{loss} {cfg}")
    shared.optim_step(adam(0)).result()


def check_ppo_raises_the_advantaged_tokens():
    client, ids = trainer(seed=3), sequence(12)
    old = logprobs(client.forward([sft(ids)[0]], "cross_entropy").result())[0].astype(np.float32)
    d = datum(ids, logprobs=old, advantages=np.ones(old.size, np.float32))
    for _ in range(3):
        client.forward_backward([d], "ppo")
        client.optim_step(adam(3e-3)).result()
    new = logprobs(client.forward([d], "ppo").result())[0]
    assert new.sum() > old.sum() + 0.05, f"{old.sum():.3f} -> {new.sum():.3f}"


def check_a_custom_loss():
    """Any function of the log probabilities, by its gradient as signed weights: here their squared distance to a wanted value."""
    if importlib.util.find_spec("torch") is None:
        return custom_loss_by_hand()
    client, ids = trainer(seed=9), sequence(12)

    def loss(data, lps):
        total = sum(((lp + 3) ** 2).sum() for lp in lps)
        return total, {"distance:sum": float(total)}

    seen = []
    for _ in range(6):
        seen.append(client.forward_backward_custom([sft(ids)[0]], loss).result().metrics["distance:sum"])
        client.optim_step(adam()).result()
    assert seen[-1] < 0.8 * seen[0], seen
    return f"{seen[0]:.2f} -> {seen[-1]:.2f}"


def custom_loss_by_hand():
    """What forward_backward_custom sends, without the torch that it computes the gradient with."""
    client, ids, seen = trainer(seed=9), sequence(12), []
    for _ in range(6):
        lp = logprobs(client.forward([sft(ids)[0]], "cross_entropy").result())[0]
        seen.append(float(((lp + 3) ** 2).sum()))
        client.forward_backward([datum(ids, weights=(-2 * (lp + 3)).astype(np.float32))], "cross_entropy").result()
        client.optim_step(adam()).result()
    assert seen[-1] < 0.8 * seen[0], seen
    return f"signed weights, no torch: {seen[0]:.2f} -> {seen[-1]:.2f}"


def check_updates_in_flight_run_in_their_order():
    """Everything is sent before anything is awaited; the outcome is that of one after the other."""
    data = [sft(sequence(10))[0] for _ in range(3)]
    waiting, patient = trainer(seed=10), trainer(seed=10)
    futures = []
    for _ in range(5):
        futures += [waiting.forward_backward(data, "cross_entropy"), waiting.optim_step(adam())]
    got = [f.result().metrics["loss:sum"] for f in futures[::2]]
    [f.result() for f in futures[1::2]]
    return f"off by {close(got, train(patient, data, 5), 1e-3, 'losses'):g}"


def post(path, body):
    request = urllib.request.Request(os.environ["TINKER_BASE_URL"] + "/api/v1/" + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json", "X-API-Key": os.environ["TINKER_API_KEY"]})
    with urllib.request.urlopen(request, timeout=30) as r:
        return json.load(r)


def future(id):
    for _ in range(60):
        r = post("retrieve_future", {"request_id": id})
        if r.get("type") != "try_again":
            return r
    raise AssertionError("no answer")


def check_duplicates_and_disorder_do_no_harm():
    """Requests as a network may deliver them: the second before the first, and each twice."""
    session = post("create_session", {"tags": [], "sdk_version": "raw"})["session_id"]
    made = post("create_model", {"session_id": session, "model_seq_id": 0, "base_model": BASE,
                                 "lora_config": {"rank": 4, "seed": 1, "train_mlp": False, "train_attn": True, "train_unembed": False}})
    step = {"model_id": made["model_id"], "adam_params": {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}}
    second = post("optim_step", step | {"seq_id": 2})["request_id"]
    first = post("optim_step", step | {"seq_id": 1})["request_id"]
    assert post("optim_step", step | {"seq_id": 2})["request_id"] == second and post("optim_step", step | {"seq_id": 1})["request_id"] == first
    for id in (first, second):
        r = future(id)
        assert "error" not in r and r == future(id), r
    other = future(post("optim_step", step | {"seq_id": 1, "adam_params": {"learning_rate": 1.0}})["request_id"])
    assert other.get("category") == "user", other
    post("sessions/" + session + "/finish", {"reason": {"type": "success"}})


def check_a_wrong_length_fails_its_future_and_no_more():
    ids = sequence(8)
    bad = types.Datum(model_input=types.ModelInput.from_ints(ids), loss_fn_inputs={"target_tokens": np.array(ids[:3], np.int64)})
    try:
        shared.forward_backward([bad], "cross_entropy").result()
    except tinker.RequestFailedError as e:
        assert "target_tokens" in str(e), e
    else:
        raise AssertionError("targets of another length were accepted")
    shared.forward([sft(ids)[0]], "cross_entropy").result()


def check_a_batch_in_chunks_keeps_its_order():
    data = [sft(sequence(4), 1)[0] for _ in range(1100)]
    whole = logprobs(shared.forward(data, "cross_entropy").result())
    assert len(whole) == len(data), len(whole)
    for i in (0, 1, 511, 1023, 1024, 1099):
        close(whole[i], logprobs(shared.forward([data[i]], "cross_entropy").result())[0], 1e-4, f"datum {i}")


def check_state_with_optimizer_continues_exactly():
    client, data = trainer(seed=4), [sft(sequence(10))[0] for _ in range(3)]
    train(client, data, 4)
    path = client.save_state("half-way").result().path
    assert path.startswith("tinker://") and path.endswith("/weights/half-way"), path
    resumed, fresh = from_state(path, True), from_state(path, False)
    a, b, c = (train(x, data, 3) for x in (client, resumed, fresh))
    worst = close(b, a, 1e-3, "losses after the restored step")
    assert abs(a[-1] - c[-1]) > 1e-3, "the optimizer's state makes no difference"
    return f"off by {worst:g}"


def check_load_state_into_a_fresh_model():
    client, data = trainer(seed=5), [sft(sequence(10))[0]]
    train(client, data, 3)
    path = client.save_state("loadable").result().path
    other = trainer(seed=6)
    (other.load_state_with_optimizer if hasattr(other, "load_state_with_optimizer") else other.load_state)(path).result()
    close(train(other, data, 2), train(client, data, 2), 1e-3, "losses")


def check_sampling_agrees_with_the_trainer():
    client = trainer(seed=7)
    train(client, [sft(sequence(12))[0] for _ in range(2)], 4, 3e-2)
    path = client.save_weights_for_sampler("s1").result().path
    assert "/sampler_weights/" in path, path
    sampler, prompt = ready(service.create_sampling_client(model_path=path)), sequence(6)
    res = sampler.sample(prompt=types.ModelInput.from_ints(prompt), num_samples=3,
                         sampling_params=types.SamplingParams(max_tokens=8, temperature=1.0, seed=5, stop=[])).result()
    assert len(res.sequences) == 3, len(res.sequences)
    worst = 0.0
    for s in res.sequences:
        assert len(s.tokens) == 8 and s.stop_reason == "length", (len(s.tokens), s.stop_reason)
        lp = logprobs(client.forward([sft(prompt + list(s.tokens))[0]], "cross_entropy").result())[0]
        worst = max(worst, close(s.logprobs, lp[-8:], 0.02, "sampler and trainer"))
    return f"off by {worst:g}"


def check_compute_logprobs():
    ids = sequence(9)
    path = shared.save_weights_for_sampler("scored").result().path
    sampler = ready(service.create_sampling_client(model_path=path))
    got = sampler.compute_logprobs(types.ModelInput.from_ints(ids)).result()
    want = logprobs(shared.forward([sft(ids)[0]], "cross_entropy").result())[0]
    assert got[0] is None and len(got) == len(ids), got
    return f"off by {close(got[1:], want, 1e-3, 'prompt logprobs'):g}"


def check_compute_logprobs_of_the_end():
    if VERSION < (0, 38):
        raise Skip("no prompt_logprobs_last_n in this SDK")
    ids, sampler = sequence(9), ready(service.create_sampling_client(base_model=BASE))
    whole = sampler.compute_logprobs(types.ModelInput.from_ints(ids)).result()
    end = sampler.compute_logprobs(types.ModelInput.from_ints(ids), prompt_logprobs_last_n=3).result()
    assert len(end) == len(ids), f"{len(end)} of {len(ids)}"
    close(end[-3:], whole[-3:], 1e-4, "the last three")


def check_a_snapshot_does_not_follow_training():
    client, ids = trainer(seed=8), sequence(10)
    train(client, [sft(ids)[0]], 2, 3e-2)
    sampler = ready(client.save_weights_and_get_sampling_client())
    prompt = types.ModelInput.from_ints(ids)
    before = sampler.compute_logprobs(prompt).result()[1:]
    close(before, logprobs(client.forward([sft(ids)[0]], "cross_entropy").result())[0], 1e-3, "snapshot")
    train(client, [sft(ids)[0]], 6, 3e-2)
    close(sampler.compute_logprobs(prompt).result()[1:], before, 1e-5, "snapshot after more training")
    after = logprobs(client.forward([sft(ids)[0]], "cross_entropy").result())[0]
    assert np.abs(after - np.array(before)).max() > 1e-2, "training changed nothing"


def check_greedy_stop_and_top_logprobs():
    sampler, prompt = ready(service.create_sampling_client(base_model=BASE)), types.ModelInput.from_ints(sequence(5))

    def draw(**kw):
        return sampler.sample(prompt=prompt, num_samples=1, sampling_params=types.SamplingParams(temperature=0.0, max_tokens=6, **kw)).result().sequences[0]

    a, b = draw(stop=[]), draw(stop=[])
    assert list(a.tokens) == list(b.tokens), "greedy answers differ"
    cut = draw(stop=[int(a.tokens[2])])
    want = list(a.tokens)[: list(a.tokens).index(a.tokens[2]) + 1]
    assert list(cut.tokens) == want and cut.stop_reason == "stop", (list(cut.tokens), cut.stop_reason, want)
    res = sampler.sample(prompt=prompt, num_samples=1, include_prompt_logprobs=True, topk_prompt_logprobs=3,
                         sampling_params=types.SamplingParams(temperature=0.0, max_tokens=1)).result()
    assert res.prompt_logprobs[0] is None and len(res.prompt_logprobs) == 5, res.prompt_logprobs
    rows = res.topk_prompt_logprobs
    assert len(rows) == 5 and len(rows[1]) == 3, rows


def soft_datum(ids, rows, at, w):
    extra = {"prompt_embeds": types.TensorData.from_numpy(rows.astype(np.float32)), "prompt_embeds_positions": np.array(at, np.int64)}
    return datum(ids, weights=w, **extra)


def check_soft_rows_equal_to_embeddings_change_nothing():
    ids = sequence(10)
    d, w = sft(ids, 5)
    at = [1, 2, 3]
    placeholders = [7 if i in at else t for i, t in enumerate(ids)]
    soft = soft_datum(placeholders, EMBEDDINGS[[ids[i] for i in at]], at, w)
    a, b = (logprobs(shared.forward([x], "cross_entropy").result())[0] for x in (d, soft))
    return f"off by {close(b[3:], a[3:], 1e-4, 'logprobs after the rows'):g}"


def check_soft_row_gradient():
    """Against central differences in random directions, two data with different rows and one without any in a batch."""
    client = trainer(seed=9)
    train(client, [sft(sequence(10))[0]], 2, 3e-2)
    scale = float(np.linalg.norm(EMBEDDINGS, axis=1).mean()) / np.sqrt(EMBEDDINGS.shape[1])
    cases = [(sequence(11), [1, 2, 3]), (sequence(9), [2, 3])]
    rows = [RNG.normal(0, scale, (len(at), EMBEDDINGS.shape[1])) for _, at in cases]
    weights = [np.r_[np.zeros(5), np.ones(len(ids) - 6)].astype(np.float32) for ids, _ in cases]

    def batch(rows):
        return [soft_datum(ids, r, at, w) for (ids, at), r, w in zip(cases, rows, weights)] + [sft(plain)[0]]

    plain = sequence(6)
    out = client.forward_backward(batch(rows), "cross_entropy").result()
    grads = [np.array(o["prompt_embeds_grad"].data).reshape(-1, EMBEDDINGS.shape[1]) for o in out.loss_fn_outputs]
    assert [g.shape[0] for g in grads] == [3, 2, 0], [g.shape for g in grads]
    worst, eps = 0.0, 0.02
    for k in range(2):
        for _ in range(3):
            v = RNG.normal(0, 1, rows[k].shape)
            v /= np.linalg.norm(v)
            ends = []
            for sign in (1, -1):
                moved = [r + sign * eps * v if i == k else r for i, r in enumerate(rows)]
                ends.append(client.forward(batch(moved), "cross_entropy").result().metrics["loss:sum"])
            numeric, given = (ends[0] - ends[1]) / (2 * eps), float(np.sum(grads[k] * v))
            worst = max(worst, abs(numeric - given) / max(1.0, float(np.linalg.norm(grads[k]))))
    assert worst < 5e-3, f"relative difference {worst:g}"
    return f"relative difference {worst:.1e}"


def check_rest_listing():
    rest, path = service.create_rest_client(), shared.save_state("listed").result().path
    run = path.removeprefix("tinker://").split("/")[0]
    runs = rest.list_training_runs(limit=100).result()
    assert run in [r.training_run_id for r in runs.training_runs], run
    assert rest.get_training_run(run).result().base_model == BASE
    found = {c.tinker_path: c for c in rest.list_checkpoints(run).result().checkpoints}
    assert found[path].checkpoint_type == "training" and found[path].checkpoint_id == "weights/listed", found
    info = rest.get_weights_info_by_tinker_path(path).result()
    assert info.base_model == BASE and info.is_lora and info.lora_rank == 4, info
    rest.delete_checkpoint(run, "weights/listed").result()
    assert path not in [c.tinker_path for c in rest.list_checkpoints(run).result().checkpoints], "still listed after its deletion"
    try:
        rest.get_weights_info_by_tinker_path(path).result()
    except tinker.NotFoundError:
        return
    raise AssertionError("a deleted checkpoint is still described")


def check_rest_of_sessions_and_checkpoints():
    """Which of them a release has differs; each that it has must work."""
    rest, path = service.create_rest_client(), shared.save_state("kept-for-rest").result().path
    run = path.removeprefix("tinker://").split("/")[0]
    session, made = run.split(":")[0], []

    def mine():
        return next(c for c in rest.list_user_checkpoints(limit=1000).result().checkpoints if c.tinker_path == path)

    def has(name):
        made.append(name)
        return hasattr(rest, name) or not made.pop()

    if has("list_user_checkpoints"):
        assert mine().checkpoint_id == "weights/kept-for-rest"
        if has("publish_checkpoint_from_tinker_path"):
            rest.publish_checkpoint_from_tinker_path(path).result()
            assert mine().public
            rest.unpublish_checkpoint_from_tinker_path(path).result()
            assert not mine().public
        if has("set_checkpoint_ttl_from_tinker_path"):
            rest.set_checkpoint_ttl_from_tinker_path(path, 3600).result()
            assert mine().expires_at is not None
            rest.set_checkpoint_ttl_from_tinker_path(path, None).result()
            assert mine().expires_at is None
    if has("list_sessions"):
        assert session in rest.list_sessions(limit=1000).result().sessions
    if has("get_session"):
        assert run in rest.get_session(session).result().training_run_ids
    last = rest.get_training_run(run).result().last_checkpoint
    assert last is not None and last.tinker_path == path, last
    assert len(made) >= 4, made
    return ", ".join(made)


def check_state_for_another_client():
    """The detail is what another client must find when it continues from the saved state."""
    client = trainer(seed=10)
    train(client, [sft(sequence(10))[0]], 3, 3e-2)
    ids = sequence(9)
    w = np.r_[np.zeros(5), np.ones(3)].astype(np.float32)
    rows = RNG.normal(0, 0.2, (2, EMBEDDINGS.shape[1])).astype(np.float32)
    path = client.save_state("handed-over").result().path
    pass_, step = client.forward_backward([soft_datum(ids, rows, [1, 2], w)], "cross_entropy"), client.optim_step(adam(3e-2))
    before = pass_.result()
    step.result()
    after = client.forward([soft_datum(ids, rows, [1, 2], w)], "cross_entropy").result()
    return json.dumps({"path": path, "ids": ids, "weights": w.tolist(), "rows": rows.flatten().tolist(), "loss": before.metrics["loss:sum"],
                       "gradient": before.loss_fn_outputs[0]["prompt_embeds_grad"].data, "before": logprobs(before)[0].tolist(), "after": logprobs(after)[0].tolist()})


def main():
    global service, shared, EMBEDDINGS, VOCAB
    from safetensors.numpy import load_file
    tensors = load_file(os.path.join(os.environ["RECPIE_SDK_MODEL"], "model.safetensors"))
    EMBEDDINGS = next(v for k, v in tensors.items() if k.endswith("wte.weight")).astype(np.float64)
    VOCAB = EMBEDDINGS.shape[0]
    service = tinker.ServiceClient()
    shared = trainer()
    only = sys.argv[1:]
    for name, check in [(k.removeprefix("check_"), v) for k, v in globals().items() if k.startswith("check_")]:
        if only and name not in only:
            continue
        start, outcome = time.monotonic(), "pass"
        try:
            detail = check() or ""
        except Skip as e:
            outcome, detail = "skip", str(e)
        except Exception as e:
            where = traceback.extract_tb(e.__traceback__)[1:] or traceback.extract_tb(e.__traceback__)
            outcome, detail = "fail", f"{type(e).__name__}: {e} (line {where[0].lineno})"
        print(json.dumps({"check": name, "outcome": outcome, "detail": detail, "seconds": round(time.monotonic() - start, 2)}), flush=True)


if __name__ == "__main__":
    main()
