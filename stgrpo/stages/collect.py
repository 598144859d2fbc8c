"""Collect: the expert plays layouts, and every state of its solutions becomes a single-turn problem."""

import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from ml_collections import ConfigDict

from stgrpo.config.checks import refuse_constraint
from stgrpo.config.environments import environment_of
from stgrpo.console import ProgressBar, say
from stgrpo.data.examples import build_examples, tokenizer_texts
from stgrpo.data.records import Trajectory, read_trajectories, write_trajectories
from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.errors import UserError
from stgrpo.evaluation.suites import longest_first_prompt, suites, with_room
from stgrpo.experts.collect import collect
from stgrpo.experts.demonstrations import demonstrations_of
from stgrpo.files import from_json, replacing, to_json, write_atomically
from stgrpo.monitors.open import write_figures
from stgrpo.protocol import PureEnvironment, object_names_of
from stgrpo.training.inputs import check_given, given_tokenizer, prompt_style
from stgrpo.workdir import WorkDir
from stgrpo.workdir.keys import differences, that_count, with_key

log = logging.getLogger(__name__)


def run_collect(config: ConfigDict, workdir: WorkDir) -> None:
    """Writes data/TASK/{train,validation}.jsonl and tokenizer/; a file that is there is kept."""
    refuse_constraint(config, "collect")
    if not workdir.tokenizer.is_dir():
        check_given(config, weights=False)
    counts = {"train": config.expert.trajectories, "validation": config.expert.validation}
    kind = "trajectories" if config.expert.kind == "llm" else "planned"
    for task in config.env.tasks:
        for split, count in counts.items():
            path = workdir.data(task, split)
            key = with_key(config, kind, {"task": task, "split": split, "count": count})
            if path.is_file():
                _check_key(path, key, kind)
                say(f"collect: {path.relative_to(workdir.path)} is complete, skipped")
                continue
            write_atomically(path.with_suffix(".key.json"), to_json(key, indent=2) + "\n")
            written = write_trajectories(path, _trajectories(config, workdir, task, split, count))
            say(f"collect: wrote {written} trajectories to {path.relative_to(workdir.path)}")
    if not workdir.tokenizer.is_dir():
        _write_tokenizer(config, workdir)
    _check_lengths(config, Tokenizer.load(workdir.tokenizer), workdir)
    write_figures(config, workdir, "collect", {0: _counts(config, workdir)})


def _check_key(path: Path, key: dict[str, object], kind: str) -> None:
    """Raises a UserError if trajectories were made otherwise than now; what was brought along has no key."""
    file = path.with_suffix(".key.json")
    try:
        theirs = from_json(file.read_bytes())
    except FileNotFoundError:
        return
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}): move it and {path.name} away to collect anew") from error
    theirs = that_count(theirs, kind) if isinstance(theirs, dict) else theirs
    if theirs != key:
        what = differences(theirs, key) if isinstance(theirs, dict) else "no key"
        raise UserError(f"{path} was collected otherwise ({what}): use another --workdir, or move it away")


def _counts(config: ConfigDict, workdir: WorkDir) -> dict[str, int]:
    """What is logged of the data: trajectories, and single-turn problems in them, by task and split."""
    counts = {}
    for task, split in itertools.product(config.env.tasks, ("train", "validation")):
        lengths = [len(t.steps) for t in read_trajectories(workdir.data(task, split))]
        counts |= {f"{task}/{split}/trajectories": len(lengths), f"{task}/{split}/problems": sum(lengths)}
    return counts


def _trajectories(config: ConfigDict, workdir: WorkDir, task: str, split: str, count: int) -> Iterable[Trajectory]:
    if config.expert.kind == "llm":
        from stgrpo.experts.served_expert import sample_expert

        return sample_expert(config, workdir, task, split, count)
    return _planned(config, task, split, count)


def _planned(config: ConfigDict, task: str, split: str, count: int) -> Iterator[Trajectory]:
    bar = ProgressBar(f"collect {task} {split}", count)
    environment, how = environment_of(config), demonstrations_of(config)
    yield from collect(
        environment, task, config.env.family, split=split, count=count, how=how, progress=lambda done, _: bar.step(done)
    )
    bar.close()


def _write_tokenizer(config: ConfigDict, workdir: WorkDir) -> None:
    tokenizer = given_tokenizer(config)
    source = "given" if tokenizer else "trained on the data"
    if tokenizer is None:
        names = object_names_of(environment_of(config))
        size = config.tokenizer.vocab_size
        tokenizer = Tokenizer(train_tokenizer(_texts(config, workdir), vocab_size=size, names=names))
    with replacing(workdir.tokenizer) as unfinished:
        tokenizer.save(unfinished)
    say(f"collect: tokenizer of {tokenizer.vocab_size} tokens, {source}")


def _check_lengths(config: ConfigDict, tokenizer: Tokenizer, workdir: WorkDir) -> None:
    """Holds every prompt and response that is known by now to the limits, before hours of training meet them.

    Raises:
        UserError: an example is over a limit, which training refuses. Of an episode to be played, which would only fail
            in its turn, a warning is given; environments whose every start costs something are not asked for them.
    """
    limits = {"max_prompt_len": config.limits.prompt, "max_response_len": config.limits.response}
    for task, split in itertools.product(config.env.tasks, ("train", "validation")):
        try:
            build_examples(read_trajectories(workdir.data(task, split)), tokenizer, prompt_style(config), **limits)
        except UserError as error:
            raise UserError(f"{error}, in another --workdir, since this one is of the old limit") from error
    if not isinstance(environment_of(config), PureEnvironment):
        return
    for suite in suites(config):
        length, layout = longest_first_prompt(config, suite, tokenizer)
        if length > config.limits.prompt:
            log.warning(
                "the first prompt of %s (%s) has %d tokens, over limits.prompt=%d, and its episode will fail: "
                "set --config.limits.prompt to %d, in another --workdir",
                *(layout, suite.name, length, config.limits.prompt, with_room(length)),
            )


def _texts(config: ConfigDict, workdir: WorkDir) -> Iterator[str]:
    for task in config.env.tasks:
        yield from tokenizer_texts(read_trajectories(workdir.data(task, "train")), prompt_style(config))
