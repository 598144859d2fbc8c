"""Evaluate: a policy plays whole episodes in layouts it has never seen."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from stgrpo import processes
from stgrpo.console import ProgramLog, say, table
from stgrpo.evaluation.checkpoints import evaluate_checkpoint
from stgrpo.evaluation.files import Evaluation
from stgrpo.evaluation.metrics import mcnemar, pair_episodes
from stgrpo.monitors.open import write_figures
from stgrpo.processes.exchange import tell
from stgrpo.training.step_folders import has_steps, newest, step_folders
from stgrpo.workdir import WorkDir


def run_evaluate(config: ConfigDict, workdir: WorkDir) -> None:
    """Evaluates the newest SFT and GRPO policies of a work directory, or the model that the config names instead."""
    if config.policy.kind == "server":
        from stgrpo.evaluation.served import evaluate_served

        results = tell(lambda: evaluate_served(config, workdir.evaluation))
        _say_and_log(config, workdir, results)
        return
    results, programs = [], ProgramLog("evaluate", workdir.programs)
    if config.policy.kind == "model":
        from stgrpo.evaluation.model_folders import evaluate_model

        _say_and_log(config, workdir, evaluate_model(config, workdir.evaluation, programs))
        return
    for stage in ("sft", "grpo"):
        if has_steps(workdir.checkpoints(stage)):
            results += newest(
                workdir.checkpoints(stage),
                lambda folder: evaluate_checkpoint(config, folder, workdir.evaluation, programs),
            )
    if not results:
        step_folders(workdir.checkpoints("sft"))  # says what is missing
    _say_and_log(config, workdir, results)


def _say_and_log(config: ConfigDict, workdir: WorkDir, results: Sequence[Evaluation]) -> None:
    if processes.is_first():
        write_figures(config, workdir, "evaluate", figures(results))
        show(results)


def figures(results: Sequence[Evaluation]) -> dict[int, dict[str, float]]:
    """What is logged of evaluations: NAME/FIGURE over all layouts and NAME/TASK/FIGURE, by the policy's step."""
    found: dict[int, dict[str, float]] = {}
    for result in results:
        parts = {result.name: result.summary} | {f"{result.name}/{task}": s for task, s in result.tasks.items()}
        numbers = {f"{at}/{k}": v for at, s in parts.items() for k, v in s.items() if isinstance(v, int | float)}
        found.setdefault(int(result.settings.get("step", 0)), {}).update(numbers)  # a served model has no step
    return found


def show(results: Sequence[Evaluation]) -> None:
    """The table at the end."""
    rows = []
    for result in results:
        for task, s in result.tasks.items():
            interval = f"{s['sr']:.3f} [{s['sr_low']:.3f}, {s['sr_high']:.3f}]" if s["n"] else "-"
            others = ("-" if s.get(name) is None else f"{s[name]:.2f}" for name in ("asat", "asst", "spl"))
            rows.append((result.name, task, str(s["n"]), interval, *others))
    for line in table(rows, ("policy_suite", "task", "n", "SR [95 % interval]", "ASAT", "ASST", "SPL")):
        say(line)
    for result in results:
        if failed := result.summary.get("server_failures"):
            say(f"{result.name}: {failed} further episodes are in no figure, in which the server had no answer")
        if (score := result.summary.get("score")) is not None:  # older files have no such figure, nor the next
            say(f"{result.name}: mean score {score:.3f}")
        if unjudged := result.summary.get("unjudged"):
            say(f"{result.name}: {_unjudged(unjudged, result.summary['responses'])}")
    by_name = {result.name: result for result in results}
    for suite in dict.fromkeys(name.partition("_")[2] for name in by_name):
        if f"sft_{suite}" in by_name and f"grpo_{suite}" in by_name:
            say(_comparison(suite, by_name[f"sft_{suite}"], by_name[f"grpo_{suite}"]))


def _unjudged(unjudged: int, responses: int) -> str:
    if unjudged == responses:
        return "no response is judged, as without a planner: nothing is known of the expert's and the fewest steps"
    what = f"{unjudged} of {responses} responses are not judged"
    return f"{what}: the planner finds no way from there, or no proof in its time"


def _comparison(suite: str, before: Evaluation, after: Evaluation) -> str:
    pairs = pair_episodes(before.episodes, after.episodes)
    test = mcnemar([a.success for a, _ in pairs], [b.success for _, b in pairs])
    return (
        f"{suite}: of {len(pairs)} layouts {test.only_b} are solved by GRPO alone, {test.only_a} by SFT alone "
        f"(exact McNemar, two-sided p = {test.p_value:.2g})"
    )
