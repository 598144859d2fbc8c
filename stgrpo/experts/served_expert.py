"""The served expert of `collect`: a language model is sampled until it succeeds, and its shortest ways are kept."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import closing

from ml_collections import ConfigDict

from stgrpo.config.environments import environment_of
from stgrpo.console import ProgressBar, say
from stgrpo.data.examples import longest_parts
from stgrpo.data.records import Trajectory
from stgrpo.envs.sessions import open_session
from stgrpo.errors import UserError
from stgrpo.evaluation.episodes import EpisodeConfig
from stgrpo.evaluation.journal import Journal, usage
from stgrpo.evaluation.records import Episode
from stgrpo.evaluation.served import check_failures, connect, connected, spent
from stgrpo.experts.llm_expert import Budget, LayoutTries, LlmExpert, Summary, as_told, solved, summary
from stgrpo.files import to_json, write_atomically
from stgrpo.protocol import Environment
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import render_messages
from stgrpo.serving.chat_policy import ChatPolicy
from stgrpo.training.inputs import given_tokenizer, prompt_style
from stgrpo.workdir import WorkDir
from stgrpo.workdir.keys import with_key


def expert_budget(config: ConfigDict, count: int) -> Budget:
    """How much is tried for `count` trajectories.

    A success counts only if the learner's limits have room for it: found out later, it had been paid for in vain. A
    tokenizer that is yet to be trained on the data cannot say.
    """
    e, tokenizer = config.expert, given_tokenizer(config)

    def fits(episode: Episode) -> bool:
        if tokenizer is None:
            return True
        prompt, response = longest_parts([as_told(episode)], tokenizer, prompt_style(config))
        return prompt <= config.limits.prompt and response <= config.limits.response

    return Budget(count, e.tries, e.successes, e.max_excess if e.max_excess >= 0 else None, fits)


def expert_layouts(config: ConfigDict, count: int) -> int:
    """How many layouts are tried for `count` trajectories at most."""
    return config.expert.layouts or 2 * count


def expert_episodes(config: ConfigDict) -> EpisodeConfig:
    """How the expert plays: always with the instructions, whatever the learner sees; an unusable answer ends a try."""
    e = config.expert
    return EpisodeConfig(
        params=SamplingParams(e.max_tokens, e.temperature, e.top_p),
        style=dataclasses.replace(prompt_style(config), instructions="full", history=e.history),
        on_invalid="end",
        seed=config.seed,
    )


def sample_expert(config: ConfigDict, workdir: WorkDir, task: str, split: str, count: int) -> Iterator[Trajectory]:
    """Yields at most `count` trajectories of the served expert, and writes every episode and a summary beside them.

    Raises:
        UserError: the server cannot be reached or refuses, or no layout was solved.
        ServerError: it failed, or had no answer in too many tries; the episodes that had ended are kept, and the same
            command goes on.
    """
    budget, path = expert_budget(config, count), workdir.expert(task, split)
    journal = Journal(path, _settings(config))
    with connected(config, config.expert.server) as client:
        policy = ChatPolicy(client, config.expert.model, expert_episodes(config).params)
        connect(policy, "expert.server")
        layouts = _sample(config, policy, journal, budget, (task, split))
    facts = summary(layouts)
    write_atomically(path.with_suffix(".json"), to_json({**facts, **_usage(config, journal)}, indent=2) + "\n")
    journal.close()
    _report(config, f"collect {task} {split}", facts, journal, count)
    yield from (tries.learned for tries in layouts if tries.learned is not None)


def _sample(
    config: ConfigDict, policy: ChatPolicy, journal: Journal, budget: Budget, of: tuple[str, str]
) -> list[LayoutTries]:
    (task, split), environment = of, environment_of(config)
    wanted = expert_layouts(config, budget.trajectories)
    layouts = environment.layouts(task, config.env.family, split=split, count=wanted)
    _check_prompts(config, environment, task, layouts)
    expert = LlmExpert(environment, policy, config=expert_episodes(config), budget=budget, journal=journal)
    bar = ProgressBar(f"collect {task} {split}", budget.trajectories)

    def show(done: Sequence[LayoutTries]) -> None:
        check_failures(config, [episode for tries in done for episode in tries.episodes], wanted)
        bar.step(solved(done), {"layouts": len(done), "tries": sum(len(tries.episodes) for tries in done)})

    found = expert.collect(
        task, layouts, workers=config.client.concurrency, on_error=policy.client.close, progress=show
    )
    bar.close()
    return found


def _check_prompts(config: ConfigDict, environment: Environment, task: str, layouts: Sequence[str]) -> None:
    """Raises a UserError if the learner has no room for the first state of a layout, before anybody is asked."""
    tokenizer, limit = given_tokenizer(config), config.limits.prompt
    if tokenizer is None:
        return
    for layout in layouts:
        with closing(open_session(environment, task, layout)) as session:
            shown = render_messages(session.reset().observation, style=prompt_style(config))
        length = len(tokenizer.encode_prompt(shown))
        if length > limit:
            where = f"{task} {layout}"
            raise UserError(f"a prompt of {length} tokens ({where}) is longer than limits.prompt={limit}: raise it")


def _settings(config: ConfigDict) -> dict[str, object]:
    """What decides how an episode goes; the budget does not, so under another one the episodes still count."""
    how = expert_episodes(config)
    settings = {"model": config.expert.model, "family": config.env.family, **dataclasses.asdict(how)}
    return with_key(config, "tries", settings)


def _usage(config: ConfigDict, journal: Journal) -> dict[str, object]:
    """Of all episodes, also of layouts that were not needed in the end."""
    used = usage(journal.episodes.values())
    cost = used.cost(config.client.prompt_price, config.client.completion_price)
    return {"model": config.expert.model, "usage": dataclasses.asdict(used), "cost": cost or None}


def _report(config: ConfigDict, label: str, facts: Summary, journal: Journal, count: int) -> None:
    say(
        f"{label}: {facts['kept']} of {facts['layouts']} layouts solved in {facts['episodes']} tries, "
        f"{spent(config, list(journal.episodes.values()))}"
    )
    if facts["server_failures"]:
        say(f"{label}: {facts['server_failures']} further tries are not counted, in which the server had no answer")
    if not facts["kept"]:
        raise UserError(
            f"{label}: nothing to learn from {config.expert.model} (failures {facts['failures']}, {facts['unfit']} "
            f"successes are over expert.max_excess, limits or the planner): read what it said in {journal.path}, raise "
            "expert.tries or expert.layouts, or take another model"
        )
    excess = facts["mean_excess"]
    above = "no planner to say how far above the optimum" if excess is None else f"{excess:.1f} above the optimum"
    say(f"{label}: {facts['mean_steps']:.1f} steps on average, {above}")
    if facts["kept"] < count:
        fix = "for more, delete the file and raise expert.tries or expert.layouts"
        say(f"{label}: these are {facts['kept']} of {count} trajectories; {fix}")
