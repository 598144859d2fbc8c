"""What is wrong with a config, all of it at once, before a run starts.

A value by itself is checked by its declaration; what stands here relates several fields.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from ml_collections import ConfigDict
from ml_collections.config_dict import RequiredValueError

from stgrpo import envs
from stgrpo.config.build import FIELDS, SECTIONS, WHOLE, base, model_shape
from stgrpo.config.environments import environment_of
from stgrpo.config.field import Section, repeated, shown
from stgrpo.config.names import suggest
from stgrpo.config.playing import one_address
from stgrpo.config.training import plays_episodes
from stgrpo.errors import UserError, nearest
from stgrpo.protocol import Environment, Planning, PureEnvironment
from stgrpo.serving.address import server_addresses

Check = Callable[[ConfigDict], Iterable[str]]
MOST_TOKENS = 2**31 - 1  # what 32 bits count, as JAX does
MOST_PARAMETERS = 10**13


def validate(config: ConfigDict, *more: Check) -> list[str]:
    """Every error at once, each with the value, the limit and the fix; empty when there is none.

    What relates several fields is asked of the config with defaults in place of values that are wrong by themselves;
    what it finds in those is left out, since it is not their user's doing.

    Args:
        config: of any form, with values of any type.
        more: checks by rooms that this one cannot know: `plan.checks` has those that a run does not start without.
    """
    values, errors = _read(config)
    sound, faulty = base(), FIELDS.keys() - values.keys()
    for name, value in values.items():
        found = list(FIELDS[name].errors(name, value))
        errors += found
        if found:
            faulty.add(name)
        else:
            section, _, leaf = name.rpartition(".")
            (sound[section] if section else sound)[leaf] = value
    relations = RELATIONS if "env.name" in faulty else (_environment, *RELATIONS)
    related = [error for check in (*relations, *more) for error in check(sound)]
    return errors + [error for error in related if not any(re.search(rf"\b{name}\b", error) for name in faulty)]


_MEANT_FOR_TRAINED = {"sft": (5e-4, "5e-5"), "grpo": (5e-5, "1e-6")}  # rates of a whole model: at most, and usual ones


def doubts(config: ConfigDict) -> list[str]:
    """What a valid config most likely does not mean, one line each, with the fix."""
    if not config.model.path:
        is_published = config.model.name != "custom" and not config.init_from
        what = f"model.path is empty, so {config.model.name} begins with random weights, not the published ones"
        return [f"{what}: set --config.model.path=FOLDER"] if is_published else []
    found = []
    if config.sft.prompt_weight:
        found.append(f"sft.prompt_weight={config.sft.prompt_weight:g} (use 0)")
    for stage, (most, usual) in _MEANT_FOR_TRAINED.items():
        rate, adapted = config[stage].learning_rate, config.lora.rank and stage in config.lora.stages
        if rate > most and not adapted:
            found.append(f"{stage}.learning_rate={rate:g} (use {usual}, or adapters: lora.rank=16)")
    if not found:
        return []
    return [f"model.path brings trained weights, for which this config is not meant: {', '.join(found)}"]


def refuse_constraint(config: ConfigDict, stage: str) -> None:
    """Raises a UserError if the answers that a stage learns from would be held to the valid actions."""
    if config.evaluation.constrain_action:
        raise UserError(
            f"evaluation.constrain_action=True is for `stgrpo evaluate` alone: {stage} makes what is learned from, and "
            "a model that is held to the valid actions does not say what it would have said; leave it out"
        )


def _read(config: ConfigDict) -> tuple[dict[str, object], list[str]]:
    """The values of all fields that are there, and what is wrong with the form of the config."""
    values, errors = {}, []
    for name, section in {"": WHOLE, **SECTIONS}.items():
        holder = _value(config, name) if name else config
        if not isinstance(holder, ConfigDict):
            errors.append(f"{name}={shown(holder)} must be a section: begin with stgrpo.config.base()")
            continue
        prefix = f"{name}." if name else ""
        errors += _form_errors(holder, section, prefix)
        values |= {f"{prefix}{leaf}": _value(holder, leaf) for leaf in section.fields if leaf in holder}
    return values, errors


def _form_errors(holder: ConfigDict, section: Section, prefix: str) -> Iterator[str]:
    known = {*section.fields, *(() if prefix else SECTIONS)}
    for leaf in holder:
        if leaf not in known:
            yield f"{prefix}{leaf} is not a field of the config: {suggest(f'{prefix}{leaf}')}"
    for leaf in section.fields:
        if leaf not in holder:
            yield f"{prefix}{leaf} is missing: begin with stgrpo.config.base()"


def _value(holder: ConfigDict, name: str) -> object:
    try:
        return holder.get(name)
    except RequiredValueError:  # a placeholder that nobody filled
        return None


def _attention(c: ConfigDict) -> Iterator[str]:
    if c.model.attention == "cudnn" and c.model.dtype == "float32":
        yield "model.attention='cudnn' cannot do model.dtype='float32': use 'bfloat16', or model.attention='auto'"


def _environment(c: ConfigDict) -> Iterator[str]:
    """What the environment does not have or cannot do."""
    try:
        environment = environment_of(c)
        yield from _names(c, environment)
    except UserError as error:
        yield str(error)
        return
    yield from _without_planner(c, environment)


def _names(c: ConfigDict, environment: Environment) -> Iterator[str]:
    """What only the environment knows by name."""
    engines, tasks = envs.engines(c.env.name), environment.tasks()
    yield from _unknown("env.engine", [c.env.engine], engines)
    yield from _unknown("env.family", [c.env.family], environment.families())
    yield from _unknown("env.tasks", c.env.tasks, tasks)
    yield from _unknown("evaluation.tasks", c.evaluation.tasks, tasks)
    if c.env.engine in engines:
        try:
            environment_of(c, engine=c.env.engine)
        except UserError as error:
            yield str(error)
    played = [task for task in c.evaluation.tasks or c.env.tasks if task in tasks]
    if "benchmark" in c.evaluation.suites and played and not any(map(environment.benchmark_layouts, played)):
        yield (
            f"evaluation.suites={tuple(c.evaluation.suites)}: {c.env.name!r} has no benchmark layouts of "
            f"{', '.join(played)}, use evaluation.suites=('unseen',)"
        )


def _without_planner(c: ConfigDict, environment: Environment) -> Iterator[str]:
    """What an environment that cannot plan, or whose states cannot be returned to, is not asked for."""
    if c.env.failure and not isinstance(environment, PureEnvironment):
        yield f"env.failure={c.env.failure}: {c.env.name!r} has sessions alone, whose actions cannot fail, use 0"
    if isinstance(environment, Planning):
        return
    no_planner = f"{c.env.name!r} has no planner"
    if c.expert.kind == "planner":
        yield f"expert.kind='planner': {no_planner}, use expert.kind='llm' with a served model"
    if c.expert.max_excess >= 0:
        yield f"expert.max_excess={c.expert.max_excess}: {no_planner} to say what is optimal, use -1"
    if c.reward.target != "expert":
        yield f"reward.target={c.reward.target!r}: {no_planner} to say what is optimal, use reward.target='expert'"
    if c.grpo.advantages == "exact":
        yield f"grpo.advantages='exact': {no_planner} to tell distances, use 'episode'"


def _unknown(name: str, values: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    known = list(known)
    for value in values:
        if value not in known:
            yield f"{name}={shown(value)} is unknown: {nearest(value, known)}"


def _stages(c: ConfigDict) -> Iterator[str]:
    for stage in ("sft", "grpo"):
        yield from _moments(c, stage)


def _moments(c: ConfigDict, learner: str) -> Iterator[str]:
    if c[learner].optimiser != "adamw" and c[learner].moment_dtype != "float32":
        yield f"{learner}.moment_dtype={c[learner].moment_dtype} is for {learner}.optimiser='adamw': use float32"


def _shape(c: ConfigDict) -> Iterator[str]:
    if c.model.name == "custom":
        yield from (f"model.{error}" for error in model_shape(c, c.tokenizer.vocab_size).errors())


def _sampling(c: ConfigDict) -> Iterator[str]:
    if c.grpo.top_p != 1.0 or c.grpo.top_k != 0:
        yield (
            f"grpo.top_p={c.grpo.top_p}, grpo.top_k={c.grpo.top_k}: training must sample from the policy itself, "
            "use top_p=1.0 and top_k=0"
        )


def _algorithm(c: ConfigDict) -> Iterator[str]:
    """What does not go together in a loss, its advantages and its reward."""
    g, r = c.grpo, c.reward
    if g.loss == "gspo" and g.aggregation != "sequence_mean":
        yield (
            f"grpo.loss='gspo' with grpo.aggregation={g.aggregation!r} weighs a response by its length, and its one "
            "ratio does not: use grpo.aggregation='sequence_mean'"
        )
    if g.baseline == "leave_one_out" and g.scale_by_std:
        yield (
            "grpo.baseline='leave_one_out' with grpo.scale_by_std=True is a constant times the group mean's advantage: "
            "use grpo.scale_by_std=False, or grpo.baseline='group_mean'"
        )
    yield from _critic(c)
    yield from _episodes(c)
    if r.overlong_buffer > c.limits.response:
        yield (
            f"reward.overlong_buffer={r.overlong_buffer} is over limits.response={c.limits.response}: use at most that"
        )


def _critic(c: ConfigDict) -> Iterator[str]:
    g = c.grpo
    if g.baseline != "critic":
        default = base().critic
        for name, value in c.critic.items():
            if value != default[name]:
                yield f"critic.{name}={value!r} is for grpo.baseline='critic': use that, or leave it out"
        return
    if g.scale_by_std:
        yield "grpo.scale_by_std=True is for a group's rewards, not for grpo.baseline='critic': use False"
    if g.loss == "gspo":
        yield "grpo.loss='gspo' has one ratio a response, grpo.baseline='critic' an advantage a token: use 'grpo'"
    if c.lora.rank and "grpo" in c.lora.stages:
        yield (
            f"lora.rank={c.lora.rank} trains adapters, grpo.baseline='critic' a whole critic: use lora.rank=0, or "
            "grpo.baseline='group_mean'"
        )
    if 0 < g.steps <= c.critic.warmup_rollouts:
        yield (
            f"critic.warmup_rollouts={c.critic.warmup_rollouts} leaves none of grpo.steps={g.steps} to the policy: "
            f"use at most {g.steps - 1}"
        )
    yield from _moments(c, "critic")


def _episodes(c: ConfigDict) -> Iterator[str]:
    """What does not go together in training on whole episodes."""
    how, default = f"grpo.advantages={c.grpo.advantages!r}", base().episodes
    users = {"layouts": ("episode", "step", "exact"), "gamma": ("step",), "step_weight": ("step",)}
    for name, using in users.items():
        if c.episodes[name] != default[name] and c.grpo.advantages not in using:
            yield f"episodes.{name}={c.episodes[name]!r} is for grpo.advantages={using[0]!r}, not {how}: leave it out"
    if not plays_episodes(c):
        return
    if c.grpo.baseline == "critic":
        yield f"grpo.baseline='critic' is for grpo.advantages='response', not {how}: use 'group_mean'"
    if c.reward.overlong_buffer:
        yield f"reward.overlong_buffer={c.reward.overlong_buffer} is for single responses, not {how}: use 0"
    if c.grpo.advantages == "exact" and c.env.failure:
        yield f"env.failure={c.env.failure}: {how} is by distances of actions that do not fail, use 0"


def _servers(c: ConfigDict) -> Iterator[str]:
    for name, is_used in (("expert", c.expert.kind == "llm"), ("policy", c.policy.kind == "server")):
        if is_used and not c[name].model:
            yield f"{name}.model is empty: give the model's name on the server"
        addresses = c[name].server.split(",") if is_used or c[name].server else []
        if repeated(addresses, one_address):
            yield f"{name}.server has an address twice: give each once"
        if addresses:
            yield from _address_errors(f"{name}.server", c[name].server)
    if c.policy.kind == "model" and not (c.policy.path or c.model.path):
        yield "policy.kind='model' has no model: set policy.path, or model.path, to a Hugging Face folder"
    if c.expert.tries > 1 and c.expert.temperature == 0 and c.expert.kind == "llm":
        yield f"expert.temperature=0 makes all expert.tries={c.expert.tries} alike: use a temperature or expert.tries=1"
    if c.expert.successes > c.expert.tries:
        yield f"expert.successes={c.expert.successes} is over expert.tries={c.expert.tries}: use at most that"
    if c.evaluation.constrain_action and c.policy.kind != "server":
        yield (
            f"evaluation.constrain_action=True is for served models, not policy.kind={c.policy.kind!r}: "
            "export the checkpoint, serve it with vLLM and use policy.kind='server'"
        )


def _address_errors(name: str, addresses: str) -> Iterator[str]:
    """What is wrong with addresses; they are not shown, since what is wrong may be a secret in them."""
    try:
        server_addresses(addresses)
    except UserError as error:
        given = name if addresses else f"{name}=''"
        yield f"{given} must be {error}"


def _rollout(c: ConfigDict) -> Iterator[str]:
    r, corrected = c.rollout, c.rollout.correction != "none"
    for address in r.servers:
        yield from _address_errors("rollout.servers", address)
    of_servers = {"servers": (), "python": "", "folder": "", "max_staleness": 0}
    of_vllm = {"flags": (), "dtype": ""}
    unused = {"jax": of_servers | of_vllm, "vllm_local": of_servers}.get(r.backend, {})
    for name, default in unused.items():
        if r[name] != default:
            yield f"rollout.{name}={r[name]!r} is for servers: use rollout.backend='vllm' or leave it out"
    m = c.model
    if r.backend != "jax" and m.name == "custom" and not (m.path or c.init_from) and m.width != m.heads * m.head_dim:
        yield (
            f"model.head_dim={m.head_dim}: vLLM takes model.width / model.heads = {m.width / m.heads:g} of such a "
            "model for it: use that, or rollout.backend='jax'"
        )
    if corrected and r.old_logprobs == "sampler":
        yield (
            f"rollout.correction={r.correction!r} and rollout.old_logprobs='sampler' correct for the same thing twice: "
            "use one of them"
        )
    if r.max_staleness and not corrected and r.old_logprobs == "trainer":
        yield (
            f"rollout.max_staleness={r.max_staleness} trains on what another policy drew: use "
            "rollout.correction='token', or 0"
        )


def _demonstrations(c: ConfigDict) -> Iterator[str]:
    """What only the planner can show, and a reward that needs what was recorded."""
    e = c.expert
    if e.kind != "planner":
        for name, default in (("error_rate", 0.0), ("action_distances", False)):
            if e[name] != default:
                yield f"expert.{name}={e[name]} is for expert.kind='planner': use that, or {default}"
    if not e.error_rate and e.errors != "labels":
        yield f"expert.errors={e.errors!r} without expert.error_rate shows none: set a rate, or leave it out"
    if c.reward.target == "distance" and not e.action_distances:
        yield "reward.target='distance' needs what was recorded of every action: set expert.action_distances=True"


def _divisions(c: ConfigDict) -> Iterator[str]:
    if not c.sft.row_tokens and c.sft.batch % c.sft.micro_batches:
        yield _divide("sft.batch", c.sft.batch, "sft.micro_batches", c.sft.micro_batches)
    parts, name = c.grpo.minibatches * c.grpo.micro_batches, "grpo.minibatches × grpo.micro_batches"
    if plays_episodes(c):  # as many prompts as turns, filled up
        return
    if c.grpo.row_tokens:  # rows are filled up to any number of micro-batches
        parts, name = c.grpo.minibatches, "grpo.minibatches"
    if c.grpo.prompts % parts:
        yield _divide("grpo.prompts", c.grpo.prompts, name, parts)


def _sizes(c: ConfigDict) -> Iterator[str]:
    """What no machine holds, said before it is tried: tokens of an update, parameters, keys and values."""
    P, R, g = c.limits.prompt, c.limits.response, c.grpo
    row = f"limits.prompt + limits.response = {P + R}"
    tokens = {
        f"sft.batch={c.sft.batch} examples of up to {row}": c.sft.batch * (P + R),
        f"grpo.prompts={g.prompts} with grpo.group_size={g.group_size} responses": g.prompts * (P + g.group_size * R),
        f"rollout.batch={c.rollout.batch} responses of up to {row}": c.rollout.batch * (P + R),
    }
    for what, count in tokens.items():
        if count > MOST_TOKENS:
            yield f"{what} tokens are {count:,} at one time, at most {MOST_TOKENS:,} are possible: use smaller ones"
    if c.model.name == "custom":
        count = model_shape(c, c.tokenizer.vocab_size).parameter_count()
        if count > MOST_PARAMETERS:
            sizes = ", ".join(f"model.{size}={c.model[size]}" for size in ("width", "depth", "mlp_width"))
            yield f"{sizes} make {count:,} parameters, at most {MOST_PARAMETERS:,} are possible: use smaller ones"


def _shares(c: ConfigDict) -> Iterator[str]:
    if c.sft.trajectories > c.expert.trajectories:
        yield (
            f"sft.trajectories={c.sft.trajectories} is over expert.trajectories={c.expert.trajectories}: "
            "use at most that, or 0 for all"
        )


def _adapters(c: ConfigDict) -> Iterator[str]:
    if c.sft.keep_frozen and not (c.lora.rank and c.lora.layers and "sft" in c.lora.stages):
        yield (
            "sft.keep_frozen=True keeps what layers without adapters give, and SFT has none: "
            "set lora.rank and lora.layers, with sft in lora.stages, or sft.keep_frozen=False"
        )
    if c.sft.keep_frozen and c.sft.row_tokens:
        yield f"sft.keep_frozen=True is not for packed rows (sft.row_tokens={c.sft.row_tokens}): use sft.row_tokens=0"
    if not c.lora.rank:
        return
    for name in ("targets", "stages"):
        if not c.lora[name]:
            yield f"lora.{name} is empty: name at least one, or set lora.rank=0"


def frozen_weights(c: ConfigDict) -> Iterator[str]:
    """That adapters have something to lie on; for whoever trains them, a plan needs no weights."""
    if c.lora.rank and "sft" in c.lora.stages and not (c.init_from or c.model.path):
        yield (
            f"lora.rank={c.lora.rank} with lora.stages={tuple(c.lora.stages)} has sft, "
            'whose frozen weights would be random: use lora.stages=("grpo",), or start from model.path or init_from'
        )


def _divide(whole: str, size: int, part: str, parts: int) -> str:
    return f"{whole}={size} is not a multiple of {part}={parts}: use {whole}={max(1, round(size / parts)) * parts}"


RELATIONS: tuple[Check, ...] = (
    _attention,
    _shares,
    _stages,
    _shape,
    _sampling,
    _algorithm,
    _servers,
    _rollout,
    _demonstrations,
    _divisions,
    _sizes,
    _adapters,
)
