"""Every shipped config parses and can run; a config that cannot says why, all of it at once."""

import pathlib

import pytest

from stgrpo.cli import check, parse
from stgrpo.config import base
from stgrpo.config.checks import doubts
from stgrpo.errors import UserError
from stgrpo.plan.checks import validate
from stgrpo.workdir import WorkDir

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(p for p in CONFIGS.rglob("*.py") if not p.name.startswith("_"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_a_shipped_config_is_valid_and_locked(path):
    config = parse(["run", f"--config={path}", "--dry_run"]).config
    assert validate(config) == []
    with pytest.raises(AttributeError):
        config.no_such_field = 1


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_a_shipped_config_refuses_a_variant_it_does_not_have(path):
    with pytest.raises(UserError, match="nonsense"):
        parse(["run", f"--config={path}:nonsense", "--dry_run"])


def test_there_are_configs():
    assert {"tiny.py", "small.py"} <= {p.name for p in FILES}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("env.tasks", ("burgr",), "did you mean 'burger'?"),
        ("env.family", "smal", "did you mean 'small'?"),
        ("grpo.kl_estimator", "k4", "k3"),
        ("grpo.group_size", 1, "at least 2"),
        ("grpo.top_p", 0.9, "top_p=1.0 and top_k=0"),
        ("sft.batch", 0, "at least 1"),
        ("sft.micro_batches", 3, "sft.batch=8 is not a multiple of sft.micro_batches=3: use sft.batch=9"),
        ("model.name", "qwen2.5-2b", "did you mean 'qwen2.5-"),
        ("grpo.clip_low", 1.5, "below 1"),
        ("env.failure", 1.0, "use one from 0 to 0.9"),
        ("lora.targets", ("q", "wq"), "did you mean 'q'?"),
        ("lora.rank", -1, "at least 0"),
        ("sft.optimiser", "adam", "did you mean 'adamw'?"),
        ("expert.kind", "lm", "did you mean 'llm'?"),
        ("expert.successes", 9, "is over expert.tries=8"),
        ("policy.kind", "serve", "did you mean 'server'?"),
        ("client.concurrency", 0, "at least 1"),
        ("client.timeout", 0.0, "above 0"),
        ("rollout.backend", "vlm", "did you mean 'vllm'?"),
        ("rollout.servers", ("http://127.0.0.1:8000",), "use rollout.backend='vllm' or leave it out"),
        ("rollout.correction_cap", 0.0, "above 0"),
        ("rollout.flags", ("--x",), "use rollout.backend='vllm' or leave it out"),
        ("grpo.loss", "gpro", "did you mean 'grpo'?, or give one of your own as MODULE:FUNCTION"),
        ("sft.loss", "no_such_module:f", "cannot be imported"),
        ("grpo.loss", "gspo", "grpo.aggregation='token_mean' weighs a response by its length"),
        ("grpo.baseline", "leave_one_out", "use grpo.scale_by_std=False"),
        ("reward.overlong_buffer", 257, "is over limits.response=256: use at most that"),
        ("grpo.loss_options", ("cap",), "'cap' of a loss is no NAME=NUMBER: give it as 'cap=5'"),
        ("grpo.loss_options", ("cap=nan",), "is no NAME=NUMBER"),
        ("expert.error_rate", 1.0, "use one from 0 to 0.9"),
        ("expert.errors", "states", "without expert.error_rate shows none"),
        ("reward.target", "distance", "set expert.action_distances=True"),
        ("monitor.mode", "offlin", "did you mean 'offline'?"),
        ("evaluation.constrain_action", True, "serve it with vLLM and use policy.kind='server'"),
    ],
)
def test_an_error_names_the_field_the_value_and_the_way_out(field, value, says):
    config = base()
    section, _, name = field.rpartition(".")
    config[section][name] = value
    (error,) = validate(config)
    assert field in error and says in error


def test_the_benchmark_suite_needs_benchmark_layouts():
    config = base()
    config.evaluation.tasks = ("burgers_2", "burgers_3")
    says = "'robotouille' has no benchmark layouts of burgers_2, burgers_3, use evaluation.suites=('unseen',)"
    assert validate(config) == [f"evaluation.suites=('unseen', 'benchmark'): {says}"]
    config.evaluation.suites = ("benchmark",)
    assert validate(config) == [f"evaluation.suites=('benchmark',): {says}"]
    for suites, tasks in ((("unseen",), ("burgers_2",)), (("benchmark",), ("burger", "burgers_2"))):
        config.evaluation.suites, config.evaluation.tasks = suites, tasks
        assert validate(config) == []


def test_adapters_of_sft_need_a_model_under_them():
    config = base()
    config.lora.rank = 8
    (error,) = validate(config)
    assert "lora.stages" in error and "model.path" in error
    assert validate(config, only_planned=True) == []
    config.model.path = "somewhere"
    assert validate(config) == []
    config.lora.targets, config.grpo.optimiser, config.grpo.moment_dtype = (), "adafactor", "bfloat16"
    assert [error.split("=")[0].split(" is")[0] for error in validate(config)] == ["grpo.moment_dtype", "lora.targets"]


def test_frozen_layers_are_kept_where_there_are_some():
    config = base()
    config.sft.keep_frozen, config.model.path, config.lora.rank = True, "somewhere", 8
    (error,) = validate(config)
    assert error.startswith("sft.keep_frozen=True") and "lora.layers" in error
    config.lora.layers = 1
    assert validate(config) == []
    config.sft.row_tokens = 4096
    (error,) = validate(config)
    assert "packed rows" in error


def test_sft_has_no_more_trajectories_than_there_are():
    config = base()
    config.sft.trajectories = config.expert.trajectories + 1
    (error,) = validate(config)
    assert error == "sft.trajectories=101 is over expert.trajectories=100: use at most that, or 0 for all"


def test_all_errors_come_at_once():
    config = base()
    config.grpo.group_size, config.sft.batch, config.prompt.history = 1, 0, "all"
    with pytest.raises(UserError) as caught:
        check(config)
    assert all(name in str(caught.value) for name in ("grpo.group_size", "sft.batch", "prompt.history"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["expert", "policy"])
@pytest.mark.parametrize(
    ("server", "model", "says"),
    [
        ("", "m", "server='' must be addresses such as http://"),
        ("127.0.0.1:8000", "m", "must be addresses such as http://"),
        ("http://a:1,", "m", "must be addresses such as http://"),
        ("http://user:pass@a:1", "m", "without user or key"),
        ("http://a:1", "", "model is empty"),
        ("http://a:1, https://b/openai/v1", "m", None),
    ],
)
def test_a_server_needs_addresses_and_a_model(name, server, model, says):
    config = base()
    config[name].kind = {"expert": "llm", "policy": "server"}[name]
    config[name].server, config[name].model = server, model
    errors = validate(config)
    assert (not errors) if says is None else (f"{name}." in errors[0] and says in errors[0] and len(errors) == 1)
    assert "pass" not in "".join(errors)


def test_a_served_expert_makes_its_own_errors():
    config = base()
    config.expert.update(kind="llm", server="http://a:1", model="m", error_rate=0.1, action_distances=True)
    assert [error.partition("=")[0] for error in validate(config)] == ["expert.error_rate", "expert.action_distances"]


def test_tries_without_a_temperature_would_be_alike():
    config = base()
    config.expert.update(kind="llm", server="http://a:1", model="m", temperature=0.0)
    assert "makes all expert.tries=8 alike" in validate(config)[0]
    config.expert.tries = 1
    assert validate(config) == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_staleness": 1}, "use rollout.correction='token', or 0"),
        ({"correction": "token", "old_logprobs": "sampler"}, "correct for the same thing twice"),
        ({"servers": ("gpu1:8000",)}, "is no address: use one such as 'http://"),
        ({"servers": ("http://a:1", "http://a:1")}, "has an address twice"),
    ],
)
def test_settings_of_servers_that_do_not_go_together_are_refused(values, says):
    config = base()
    config.rollout.backend = "vllm"
    assert validate(config) == []
    for name, value in values.items():
        config.rollout[name] = value
    (error,) = validate(config)
    assert says in error


@pytest.mark.parametrize("backend", ["vllm", "vllm_local"])
def test_heads_of_a_size_that_vllm_would_read_otherwise_are_refused(backend):
    config = base()
    config.model.name, config.model.head_dim = "custom", 2 * config.model.width // config.model.heads
    assert validate(config) == []
    config.rollout.backend = backend
    (error,) = validate(config)
    assert "vLLM takes model.width / model.heads" in error and "rollout.backend='jax'" in error


def test_where_servers_are_does_not_make_another_run(tmp_path):
    config = base()
    config.rollout.backend = "vllm"
    WorkDir(tmp_path / "w").claim(config)
    config.rollout.servers, config.rollout.folder = ("http://a:1",), "/weights"
    WorkDir(tmp_path / "w").claim(config)
    config.rollout.max_staleness = 1
    with pytest.raises(UserError, match="rollout.max_staleness"):
        WorkDir(tmp_path / "w").check_config(config)


def test_choosing_a_monitor_does_not_make_another_run(tmp_path):
    config = base()
    WorkDir(tmp_path / "w").claim(config)
    config.monitor.writers, config.monitor.name, config.monitor.mode = ("tensorboard",), "mine", "online"
    WorkDir(tmp_path / "w").claim(config)


def test_settings_for_random_weights_are_doubted_where_weights_are_given():
    config = parse(["run", f"--config={CONFIGS / 'tiny.py'}", "--dry_run"]).config
    assert doubts(config) == []
    config.model.path = "models/smollm2"
    (said,) = doubts(config)
    for part in (
        "sft.prompt_weight=1 (use 0)",
        "sft.learning_rate=0.008 (use 5e-5",
        "grpo.learning_rate=0.0004 (use 1e-6",
    ):
        assert part in said
    config.sft.prompt_weight, config.lora.rank, config.lora.stages = 0.0, 16, ("sft", "grpo")
    assert doubts(config) == []


def test_a_published_model_without_its_weights_is_doubted():
    config = parse(["run", f"--config={CONFIGS / 'smollm2.py'}", "--dry_run"]).config
    (said,) = doubts(config)
    assert "smollm2-135m begins with random weights" in said and "set --config.model.path=FOLDER" in said
    config.init_from = "runs/a/checkpoints/sft/9"
    assert doubts(config) == []


def test_the_papers_configs_and_their_twins_are_the_same_experiment_but_for_size():
    def config(spec):
        found = parse(["run", f"--config={CONFIGS / 'paper' / spec}", "--dry_run"]).config
        assert validate(found) == []
        return found

    whole, small = config("recipe.py:cheese_burger"), config("recipe.py:cheese_burger,cpu")
    assert whole.env.tasks == small.env.tasks == ("cheese_burger",)
    for field in ("kl_coef", "kl_estimator", "clip_low", "minibatches", "temperature", "loss", "baseline"):
        assert whole.grpo[field] == small.grpo[field], field
    assert whole.reward == small.reward and (whole.grpo.prompts, whole.grpo.learning_rate) == (256, 1e-6)
    assert config("cross_task.py:burger").evaluation.tasks == config("cross_task.py:smoke").evaluation.tasks
    alone = config("sft.py:cpu")
    assert (alone.grpo.epochs, alone.grpo.steps, alone.sft.steps) == (0, 0, small.sft.steps)
    assert config("baselines.py:14B").policy.model == "Qwen/Qwen2.5-14B-Instruct"
    assert config("ppo.py:cpu").critic.learning_rate == 100 * config("ppo.py").critic.learning_rate
    for both in ("burger,cheese_burger", "cpu,smoke"):
        with pytest.raises(UserError, match="is two experiments"):
            config(f"recipe.py:{both}")


def test_variants_of_smollm2_go_together_in_any_order():
    file = f"--config={CONFIGS / 'smollm2.py'}"
    whole, some = (
        parse(["run", f"{file}:{arg}", "--dry_run"]).config for arg in ("", "bare,lora,benchmark,cheese_burger")
    )
    assert (whole.env.tasks, whole.env.family, whole.lora.rank, whole.prompt.instructions) == (
        ("burger",),
        "small",
        0,
        "full",
    )
    assert (some.env.tasks, some.env.family, some.lora.rank) == (("cheese_burger",), "random", 16)
    assert some.prompt.instructions == "none" and "benchmark" in some.evaluation.suites
    small, smoke = (parse(["run", f"{file}:{arg}", "--dry_run"]).config for arg in ("cpu", "smoke,cpu"))
    assert (small.lora.rank, small.prompt.instructions, small.sft.keep_frozen) == (16, "none", True)
    assert small.sft.trajectories < small.expert.trajectories
    assert smoke.sft.trajectories <= smoke.expert.trajectories
    for both in ("burger,cheese_burger", "small,benchmark"):
        with pytest.raises(UserError, match="is two experiments"):
            parse(["run", f"{file}:{both}", "--dry_run"])
