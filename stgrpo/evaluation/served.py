"""Served models: any OpenAI-compatible server plays the episodes of an evaluation, a baseline beside our policies."""

import dataclasses
import functools
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from stgrpo.console import ProgressBar, say
from stgrpo.envs.sessions import open_session
from stgrpo.errors import ServerError, Unreachable, UserError
from stgrpo.evaluation.episodes import EpisodeConfig, play_episodes
from stgrpo.evaluation.files import Evaluation, reusable, write_evaluation
from stgrpo.evaluation.journal import Journal, usage
from stgrpo.evaluation.records import Episode, played, result_name
from stgrpo.evaluation.registration import register, say_registered
from stgrpo.evaluation.suites import Suite, play_settings, playing_environment, style_settings, suite_layouts, suites
from stgrpo.protocol import Environment
from stgrpo.react.policy import SamplingParams
from stgrpo.serving.address import server_addresses
from stgrpo.serving.chat_policy import ChatPolicy, Constraint
from stgrpo.serving.client import ClientSettings, HttpClient
from stgrpo.serving.key import read_key
from stgrpo.serving.pool import parallel
from stgrpo.training.inputs import prompt_style
from stgrpo.workdir.keys import same, with_key


def policy_name(config: ConfigDict) -> str:
    """The name of a served policy in files: letters, digits, dots and dashes, with "-constrained" where it is.

    Raises:
        UserError: it would be that of a policy of the work directory.
    """
    name = result_name(config.policy.name or config.policy.model.rstrip("/").rpartition("/")[2])
    return name + ("-constrained" if config.evaluation.constrain_action else "")


def policy_episodes(config: ConfigDict) -> EpisodeConfig:
    """How a served policy plays."""
    p, e, style = config.policy, config.evaluation, prompt_style(config)
    return EpisodeConfig(
        params=SamplingParams(config.limits.response, e.temperature, e.top_p, e.top_k),
        style=dataclasses.replace(
            style, instructions=p.instructions or style.instructions, history=p.history or style.history
        ),
        on_invalid=e.on_invalid,
        retries=e.retries,
        seed=config.seed,
    )


def evaluate_served(config: ConfigDict, directory: Path) -> list[Evaluation]:
    """Plays every suite of the config with the served policy.

    Results that are there already are kept if the same model played the same layouts in the same way, and episodes of
    an evaluation that broke off are not played again.

    Raises:
        UserError: the server cannot be reached or refuses.
        ServerError: it failed, or had no answer in too many episodes; those that had ended are kept.
    """
    wanted = {f"{policy_name(config)}_{suite.name}": suite for suite in suites(config)}
    settings = {name: _settings(config, suite) for name, suite in wanted.items()}
    results = reusable(directory, settings, fits=same)
    for result in results:
        say(f"evaluate: {result.name} is complete, skipped")
        del wanted[result.name]
    if not wanted:
        return results
    hashes = {name: register(directory, name, config, wanted[name], settings[name]) for name in wanted}
    say_registered(hashes)
    constraint = Constraint(config.evaluation.reasoning_chars) if config.evaluation.constrain_action else None
    with connected(config, config.policy.server) as client:
        policy = ChatPolicy(client, config.policy.model, policy_episodes(config).params, constraint)
        connect(policy, "policy.server")
        for name, suite in wanted.items():
            journal = Journal(directory / f"{name}.journal.jsonl", settings[name])
            episodes = _play_suite(config, suite, policy, journal)
            how = {"settings": settings[name], "protocol": hashes[name]}
            results.append(write_evaluation(directory, name, episodes, **how))
            journal.delete()
            say(f"evaluate {name}: {spent(config, episodes)}")
    return results


def _play_suite(config: ConfigDict, suite: Suite, policy: ChatPolicy, journal: Journal) -> list[Episode]:
    """Every layout by itself, many at a time, so that none waits for the slowest answer of all."""
    environment, how = playing_environment(config), policy_episodes(config)
    layouts = suite_layouts(environment, suite)
    jobs = (functools.partial(_play, environment, layout, policy, how, journal) for layout in layouts)
    bar = ProgressBar(f"evaluate {journal.path.name.partition('_')[0]} {suite.name}", len(layouts))
    done: list[Episode] = []
    with closing(parallel(jobs, config.client.concurrency, on_error=policy.client.close)) as results:
        for episode in results:
            done.append(episode)
            check_failures(config, done, len(layouts))
            bar.step(len(done), {"solved": sum(e.success for e in done), "requests": usage(done).requests})
    bar.close()
    return [journal.episodes[*layout, 0] for layout in layouts]


def _play(
    environment: Environment, layout: tuple[str, str], policy: ChatPolicy, how: EpisodeConfig, journal: Journal
) -> Episode:
    key = (*layout, 0)
    if journal.played(key) is None:
        with closing(open_session(environment, *layout)) as session:
            (episode,) = play_episodes([session], policy, config=how)
        journal.add(key, episode)
    return journal.episodes[key]


def check_failures(config: ConfigDict, done: Sequence[Episode], total: int) -> None:
    """Raises a ServerError if the server has failed more of the episodes than `client.failed_share` allows.

    Args:
        config: of the run.
        done: episodes so far.
        total: that there are to be.
    """
    failed = [episode for episode in done if not played([episode])]
    if len(failed) > config.client.failed_share * total:
        raise ServerError(
            f"{failed[-1].turns[-1].response}; the server had no answer in {len(failed)} episodes, over "
            f"client.failed_share={config.client.failed_share:g} of {total}: the same command plays them again"
        )


def _settings(config: ConfigDict, suite: Suite) -> Mapping[str, object]:
    how, e = policy_episodes(config), config.evaluation
    settings = {
        "policy": policy_name(config),
        "model": config.policy.model,
        **play_settings(config, suite),
        **style_settings(how.style),
        "constrain_action": e.constrain_action,
        "reasoning_chars": e.reasoning_chars if e.constrain_action else None,
    }
    return with_key(config, "served", settings)


@contextmanager
def connected(config: ConfigDict, server: str) -> Generator[HttpClient]:
    """A client of the servers that a config field names.

    Raises:
        UserError: the environment variable that should hold the key has none that can be sent, or another variable of
            the environment keeps everybody from the servers.
    """
    c = config.client
    key = read_key(c.key_variable)
    settings = ClientSettings(
        timeout=c.timeout,
        retries=c.retries,
        longest_wait=c.longest_wait,
        concurrency=c.concurrency,
        requests_per_minute=c.requests_per_minute,
    )
    with HttpClient(server_addresses(server), settings, key=key) as client:
        yield client


def connect(policy: ChatPolicy, field: str) -> None:
    """Asks the servers of a config field what they are.

    Raises:
        UserError: one cannot be reached, or cannot do what is asked of it.
        ServerError: one fails.
    """
    try:
        policy.connect()
    except Unreachable as error:
        raise UserError(f"{field}: {error}") from error


def spent(config: ConfigDict, episodes: list[Episode]) -> str:
    """What episodes cost, for a person."""
    c, used = config.client, usage(episodes)
    tokens = f"{used.prompt_tokens:,} prompt and {used.completion_tokens:,} completion tokens"
    has_prices = c.prompt_price or c.completion_price
    cost = f", {used.cost(c.prompt_price, c.completion_price):.2f} at the config's prices" if has_prices else ""
    return f"{used.requests:,} requests, {tokens}{cost}"
