"""What a reply must be to be believed, and what a server is started with."""

import dataclasses
import sys

import pytest

from stgrpo.errors import ServerError, UserError
from stgrpo.models.shapes import named_shapes
from stgrpo.sampling.vllm.sampler import only_tokens, read_reply
from stgrpo.sampling.vllm.server import ServerSettings, VllmServer, server_environment, server_flags

BODY = {"model": "stgrpo", "prompt": [7, 8], "n": 2, "max_tokens": 3, "stop_token_ids": [2]}


def choice(index=0, ids=(5, 2), finish="stop", **changes):
    values = {
        "index": index,
        "token_ids": list(ids),
        "prompt_token_ids": [7, 8],
        "finish_reason": finish,
        "logprobs": {"token_logprobs": [-0.5] * len(ids), "tokens": [f"token_id:{i}" for i in ids]},
    }
    return values | changes


def reply(*choices, model="stgrpo"):
    return {"model": model, "choices": list(choices)}


def test_a_good_reply_is_read_by_number():
    got = read_reply(reply(choice(1, (5, 6, 6), "length"), choice(0)), BODY)
    assert got == ([[5, 2], [5, 6, 6]], [[-0.5] * 2, [-0.5] * 3], ["stop", "length"])


def logprobs(values, names=("token_id:5", "token_id:2")):
    return {"logprobs": {"token_logprobs": values, "tokens": list(names)}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (reply(choice(0)), "asked for 2 samples of stgrpo and sent 1"),
        (reply(choice(0), choice(0)), "asked for 2 samples"),
        (reply(choice(0), choice(1), model="other"), "asked for 2 samples of stgrpo"),
        (reply(choice(0), choice(1, prompt_token_ids=[7, 9])), "the prompt's ids"),
        (reply(choice(0), choice(1, prompt_token_ids=None)), "the prompt's ids"),
        (reply(choice(0), choice(1, token_ids=None)), "cannot be read"),
        (reply(choice(0), choice(1, logprobs=None)), "cannot be read"),
        (reply(choice(0), {"index": 1}), "cannot be read"),
        (reply(choice(0), choice(1, **logprobs([-0.1, -0.1], ("token_id:5", "token_id:3")))), "not those of"),
        (reply(choice(0), choice(1, **logprobs([-0.1, -0.1], ("five", "two")))), "cannot be read"),
        (reply(choice(0), choice(1, **logprobs([-0.1]))), "2 ids have 1"),
        (reply(choice(0), choice(1, **logprobs([-0.1, 0.3]))), "a log-probability"),
        (reply(choice(0), choice(1, **logprobs([-0.1, float("nan")]))), "a log-probability"),
        (reply(choice(0), choice(1, (5, 6, 7, 2))), "4 tokens are over the limit of 3"),
        (reply(choice(0), choice(1, (5, 2), "abort")), "ends with 'abort'"),
        (reply(choice(0), choice(1, (2, 5), "length")), "goes on after a stop token"),
        (reply(choice(0), choice(1, (5, 6), "stop")), "a finish reason"),
        (reply(choice(0), choice(1, (5, 2), "length")), "a finish reason"),
        (reply(choice(0), choice(1, (5, 6), "length")), "cut after 2 of 3 tokens"),
        ({"choices": []}, "cannot be read"),
    ],
)
def test_a_reply_that_cannot_be_right_is_refused(wrong, said):
    with pytest.raises(ServerError, match=said):
        read_reply(wrong, BODY)


@pytest.fixture
def settings(tmp_path, tiny_shape):
    return ServerSettings(tmp_path, tiny_shape, "float32", 64, sys.executable, extra=("--max-model-len=128",))


def test_a_server_is_started_with_what_exact_samples_need(settings):
    flags = server_flags(settings, gpu=True)
    for needed in ("--generation-config=vllm", "--logprobs-mode=processed_logprobs", "--host=127.0.0.1"):
        assert needed in flags
    assert "--worker-extension-cls=stgrpo.sampling.vllm.worker.WeightReceiver" in flags
    assert "--load-format=dummy" in flags  # the folder has no weights
    assert flags[-1] == "--max-model-len=128"  # the user's own word is the last
    assert "--enforce-eager" not in flags and "--enforce-eager" in server_flags(settings, gpu=False)


def test_weights_that_are_there_are_read(settings):
    (settings.model / "model.safetensors").write_bytes(b"")
    assert "--load-format=dummy" not in server_flags(settings, gpu=True)


def test_a_server_sees_nothing_of_the_trainers_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("XLA_FLAGS", "--x")
    found = server_environment(tmp_path, "127.0.0.1")
    assert found["PYTHONPATH"] == str(tmp_path) and "XLA_FLAGS" not in found
    assert found["VLLM_SERVER_DEV_MODE"] == "1" and found["VLLM_HOST_IP"] == "127.0.0.1"
    assert "VLLM_HOST_IP" not in server_environment(tmp_path, "0.0.0.0")


def test_an_interpreter_that_is_not_there_or_has_no_vllm_is_named(settings, tmp_path):
    with pytest.raises(UserError, match="rollout.python=/nowhere/python cannot be run"):
        VllmServer(dataclasses.replace(settings, python="/nowhere/python"), None)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(UserError, match="has no vLLM: set rollout.python"):
        VllmServer(dataclasses.replace(settings, python=str(script)), None)


def test_a_server_that_does_not_start_says_why(settings, tmp_path):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "(Worker) ValueError: no such model"\nexit 3\n')
    script.chmod(0o755)
    with VllmServer(dataclasses.replace(settings, python=str(script)), tmp_path / "log") as server:
        with pytest.raises(ServerError, match="ended with 3 while starting: ValueError: no such model .*log"):
            server.start(limit=30)


def test_rows_without_a_token_are_taken_out_by_the_shorter_list():
    shape = named_shapes()["qwen2.5-1.5b"]
    assert only_tokens(shape) == {}
    bias = only_tokens(shape.with_tokens(151_665))["logit_bias"]
    assert len(bias) == 271 and min(bias) == 151_665 and max(bias) == 151_935 and set(bias.values()) == {-100.0}
    assert only_tokens(shape.with_tokens(1000)) == {"allowed_token_ids": list(range(1000))}


def test_an_id_without_a_token_is_not_taken():
    good = reply(choice(0), choice(1))
    assert read_reply(good, BODY, 6) == read_reply(good, BODY)
    with pytest.raises(ServerError, match="an id has no token, all of which are below 5"):
        read_reply(good, BODY, 5)
