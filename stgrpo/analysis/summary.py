"""analysis.json: what follows of the measurements of a reference and a trained policy, theorem by theorem.

Every table says in `from` what its numbers were computed from. P(..) is a probability over the policy's own drawing.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from stgrpo.analysis.credit import TurnCredit, agreement
from stgrpo.analysis.graph import LayoutGraph, Node
from stgrpo.analysis.measure import ESTIMATORS, Measured
from stgrpo.analysis.plays import Feature, feature, off_path
from stgrpo.analysis.statistics import Mean, bootstrap_mean, newcombe_interval, total_variation
from stgrpo.analysis.theory import amplified, lowered, path_success, prefix_success
from stgrpo.evaluation.metrics import wilson_interval

REFERENCE, TRAINED = "reference", "trained"
BETAS = (0.001, 0.01, 0.1, 1.0, 10.0)
CLOSE = 1e-3
"""A change of a probability that is no more than this counts as none."""
Table = dict[str, object]


@dataclasses.dataclass(frozen=True)
class Study:
    """What was measured in the same layouts.

    Attributes:
        graphs: of the layouts.
        policies: `REFERENCE` and `TRAINED`.
        betas: weights of the KL for Theorem 3.1, the run's own among them.
        training: features of the states that were trained on.
        seed: of the resampled layouts.
        credit: by policy the advantages of the turns of each layout; empty where there was no group of episodes.
    """

    graphs: Sequence[LayoutGraph]
    policies: Mapping[str, Measured]
    betas: Sequence[float]
    training: Sequence[Feature]
    seed: int
    credit: Mapping[str, Sequence[TurnCredit]] = dataclasses.field(default_factory=dict)

    def mean(self, values: Sequence[float]) -> Mean:
        """Over layouts, with its interval."""
        return bootstrap_mean(values, seed=self.seed)

    def by_layout(self, value: Callable[[Measured, LayoutGraph, int], float], name: str) -> list[float]:
        """A number of each layout for one policy."""
        return [value(self.policies[name], graph, i) for i, graph in enumerate(self.graphs)]

    def path_p(self, name: str, estimator: str) -> list[list[float]]:
        """p(s) of the expert's action, by layout and step."""
        return [self.policies[name].expert_p(graph, i, estimator) for i, graph in enumerate(self.graphs)]


def summarise(study: Study) -> Table:
    """All tables but the settings; JSON."""
    return {
        "layouts": _layouts(study),
        "single_turn": _single_turn(study),
        "theorem_3_1": _theorem_3_1(study),
        "theorem_3_2": _theorem_3_2(study),
        "theorem_3_3": _theorem_3_3(study),
        "corollary_3_2": _corollary_3_2(study),
        "assumption_3_1": _assumption_3_1(study),
        "horizons": _horizons(study),
        **({"credit": _credit(study)} if study.credit else {}),
        "states": list(_states(study)),
    }


def _layouts(study: Study) -> Table:
    graphs = study.graphs
    return {
        "from": "the planner: the expert's path and every way of fewest steps",
        "n": len(graphs),
        "unique": sum(graph.unique for graph in graphs),
        "cut": sum(graph.cut for graph in graphs),
        "expert_states": sum(graph.horizon for graph in graphs),
        "states_of_fewest_steps": sum(len(graph.nodes) for graph in graphs),
        "expert_states_with_one_optimal_action": sum(len(n.optimal) == 1 for graph in graphs for n in graph.path),
    }


def _single_turn(study: Study) -> Table:
    tables: Table = {
        "from": "answers to every state of the expert's paths; sampled: the share with the action; scored: its "
        "probability given each answer's own reasoning; both of the same answers. Means over layouts of means "
        "over their states, intervals from layouts drawn with replacement"
    }
    for name, measured in study.policies.items():
        answers = [a for graph, all_ in _paired(study, measured) for a in all_[: graph.horizon]]
        tables[name] = {
            "expert": _estimates(study, name, Measured.expert_p),
            "optimal": _estimates(study, name, Measured.optimal_p),
            "agreement": _agreement(study, name),
            "answers": sum(a.n for a in answers),
            "celled": sum(a.celled for a in answers) / sum(a.n for a in answers),
        }
    return tables


def _paired(study: Study, measured: Measured) -> Iterator[tuple[LayoutGraph, tuple]]:
    return zip(study.graphs, measured.answers, strict=True)


def _estimates(study: Study, name: str, p: Callable[[Measured, LayoutGraph, int, str], list[float]]) -> Table:
    values = {e: study.by_layout(lambda m, g, i, e=e: _average(p(m, g, i, e)), name) for e in ESTIMATORS}
    differences = [a - b for a, b in zip(values["scored"], values["sampled"], strict=True)]
    return {**{e: study.mean(v) for e, v in values.items()}, "scored_minus_sampled": study.mean(differences)}


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _agreement(study: Study, name: str) -> Table:
    """How the scored estimate of the expert's action lies to the Wilson interval of the sampled one."""
    inside, variance, total = 0, dict.fromkeys(ESTIMATORS, 0.0), 0
    for graph, answers in _paired(study, study.policies[name]):
        for node, each in zip(graph.path, answers, strict=False):
            low, high = wilson_interval(round(each.sampled_GA[:, 0].sum()), each.n)
            inside += low <= each.probabilities("scored")[node.expert] <= high
            total += 1
            for e in ESTIMATORS:
                variance[e] += float(each.values_GA(e)[:, 0].var())
    ratio = variance["scored"] / variance["sampled"] if variance["sampled"] else None
    return {"states": total, "scored_in_interval_of_sampled": inside / total, "variance_ratio": ratio}


def _theorem_3_1(study: Study) -> Table:
    before, after = (list(itertools.chain(*study.path_p(name, "scored"))) for name in (REFERENCE, TRAINED))
    fits = [_fixed_point(beta, before, after) for beta in study.betas]
    return {
        "from": "scored p(s) of the expert's action in every expert state; the iteration begins at the reference's "
        "and is that of the theorem, of exact expectations and as many updates as it takes; bins: states by tenths of "
        "the reference's estimate, so that noise alone has the lowest rise and the highest fall",
        "states": len(before),
        "mean_reference": _average(before),
        "mean_trained": _average(after),
        "share_not_lower": _average([float(b >= a - CLOSE) for a, b in zip(before, after, strict=True)]),
        "betas": fits,
        "bins": _bins(study.betas, before, after),
    }


def _fixed_point(beta: float, before: Sequence[float], after: Sequence[float]) -> Table:
    fixed, rested = zip(*(amplified(p, beta) for p in before), strict=True)
    gaps = [p - f for p, f in zip(after, fixed, strict=True)]
    return {
        "beta": beta,
        "mean_fixed_point": _average(fixed),
        "measured_minus_fixed_point": _average(gaps),
        "mean_absolute_difference": _average([abs(gap) for gap in gaps]),
        "at_rest": _average([float(r) for r in rested]),
    }


def _bins(betas: Sequence[float], before: Sequence[float], after: Sequence[float]) -> list[Table]:
    """States by tenths of the reference's p(s): what the trained policy has there, and what the theorem."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for a, b in zip(before, after, strict=True):
        bins.setdefault(min(9, int(10 * a)), []).append((a, b))
    return [
        {
            "states": len(rows),
            "reference": _average([a for a, _ in rows]),
            "trained": _average([b for _, b in rows]),
            "fixed_points": {str(beta): _average([amplified(a, beta)[0] for a, _ in rows]) for beta in betas},
        }
        for _, rows in sorted(bins.items())
    ]


def _theorem_3_2(study: Study) -> Table:
    tables: Table = {
        "from": "recursion: products of p(s) over states; episodes: the share of whole episodes; of each layout, then "
        "their mean, its interval and that of the difference from layouts drawn with replacement. Layouts whose "
        "ways of fewest steps were cut are left out of fewest"
    }
    for name in study.policies:
        tables[name] = {"as_expert": _as_expert(study, name), **_fewest(study, name)}
    return tables


def _as_expert(study: Study, name: str) -> Table:
    played = study.by_layout(lambda m, g, i: _average([float(p.as_expert) for p in m.plays[i]]), name)
    found = {e: study.by_layout(lambda m, g, i, e=e: m.path_recursion(g, i, e), name) for e in ESTIMATORS}
    return _against(study, found, played)


def _fewest(study: Study, name: str) -> Table:
    """The same with every way of fewest steps, and how much the expert's own way leaves out of it."""
    whole = [i for i, graph in enumerate(study.graphs) if not graph.cut]
    played = study.by_layout(lambda m, g, i: _average([float(p.fewest) for p in m.plays[i]]), name)
    copied = study.by_layout(lambda m, g, i: _average([float(p.as_expert) for p in m.plays[i]]), name)
    found = {e: study.by_layout(lambda m, g, i, e=e: m.graph_recursion(g, i, e), name) for e in ESTIMATORS}
    path = {e: study.by_layout(lambda m, g, i, e=e: m.path_recursion(g, i, e), name) for e in ESTIMATORS}
    several = [i for i in whole if not study.graphs[i].unique]

    def gaps(at: Sequence[int]) -> Table:
        """P(any way of fewest steps) - P(the expert's)."""
        tables: Table = {e: study.mean([found[e][i] - path[e][i] for i in at]) for e in ESTIMATORS}
        return {**tables, "episodes": study.mean([played[i] - copied[i] for i in at])}

    some = {e: [values[i] for i in whole] for e, values in found.items()}
    return {
        "fewest": _against(study, some, [played[i] for i in whole]),
        "fewest_minus_as_expert": gaps(whole),
        "fewest_minus_as_expert_where_not_unique": gaps(several),
    }


def _against(study: Study, recursion: Mapping[str, list[float]], played: list[float]) -> Table:
    tables: Table = {"episodes": study.mean(played)}
    for estimator, values in recursion.items():
        differences = [a - b for a, b in zip(values, played, strict=True)]
        tables[estimator] = study.mean(values)
        tables[f"{estimator}_minus_episodes"] = study.mean(differences)
    return tables


def _theorem_3_3(study: Study) -> Table:
    before, after = study.path_p(REFERENCE, "scored"), study.path_p(TRAINED, "scored")
    changes = [b - a for a, b in zip(itertools.chain(*before), itertools.chain(*after), strict=True)]
    success_before, success_after = list(map(path_success, before)), list(map(path_success, after))
    losses = list(itertools.starmap(lowered, zip(before, after, strict=True)))
    bounds = [p - loss for p, loss in zip(success_before, losses, strict=True)]
    return {
        "from": "p(s) of the expert's action in every expert state, scored; changes up to 0.001 count as none; shown: "
        "the 95 % interval (Newcombe) of the sampled change leaves out 0, as it does in about one state in forty on "
        "each side without any change, or fewer; success: the product along the path; bound: the reference's less "
        "the loss, which is the sum of the falls along the path: 0 where the theorem's premise holds. Noise makes "
        "that sum too large where answers are few",
        "states": len(changes),
        **_directions(changes),
        **_shown(study),
        "mean_rise": _average([max(0.0, c) for c in changes]),
        "mean_fall": _average([max(0.0, -c) for c in changes]),
        "largest_fall": max(0.0, -min(changes)),
        "gain": study.mean([b - a for a, b in zip(success_before, success_after, strict=True)]),
        "layouts_lower": _average([float(b < a - CLOSE) for a, b in zip(success_before, success_after, strict=True)]),
        "layouts_where_premise_holds": _average(
            [float(_never_lower(*each)) for each in zip(before, after, strict=True)]
        ),
        "loss": study.mean(losses),
        "bound": study.mean(bounds),
        "success": {REFERENCE: study.mean(success_before), TRAINED: study.mean(success_after)},
    }


def _directions(changes: Sequence[float]) -> Table:
    """Shares of changes up, down, and of no more than `CLOSE`."""
    higher, lower = _average([float(c > CLOSE) for c in changes]), _average([float(c < -CLOSE) for c in changes])
    return {"higher": higher, "equal": _average([float(abs(c) <= CLOSE) for c in changes]), "lower": lower}


def _never_lower(before: Sequence[float], after: Sequence[float]) -> bool:
    return all(b >= a - CLOSE for a, b in zip(before, after, strict=True))


def _change(study: Study, layout: int, step: int) -> tuple[float, float]:
    """The interval of the change of a state's sampled p(s)."""
    counts = []
    for name in (REFERENCE, TRAINED):
        answers = study.policies[name].answers[layout][step]
        counts += [round(answers.sampled_GA[:, 0].sum()), answers.n]
    return newcombe_interval(*counts)


def _shown(study: Study) -> Table:
    intervals = [_change(study, i, step) for i, graph in enumerate(study.graphs) for step in range(graph.horizon)]
    return {
        "shown_higher": _average([float(low > 0) for low, _ in intervals]),
        "shown_lower": _average([float(high < 0) for _, high in intervals]),
    }


def _corollary_3_2(study: Study) -> Table:
    before = list(map(prefix_success, study.path_p(REFERENCE, "scored")))
    after = list(map(prefix_success, study.path_p(TRAINED, "scored")))
    pairs = [(a, b) for each in zip(before, after, strict=True) for a, b in zip(*each, strict=True)]
    longest = max(map(len, before))
    return {
        "from": "products of scored p(s) over the first k steps of each expert's path; by k the paths that have as "
        "many; changes up to 0.001 count as none",
        "prefixes": len(pairs),
        **_directions([b - a for a, b in pairs]),
        "largest_fall": max(max(0.0, a - b) for a, b in pairs),
        "by_steps": [_prefix(study, before, after, k) for k in range(longest)],
    }


def _prefix(study: Study, before: list[list[float]], after: list[list[float]], k: int) -> Table:
    rows = [(a[k], b[k]) for a, b in zip(before, after, strict=True) if k < len(a)]
    return {
        "steps": k + 1,
        REFERENCE: _average([a for a, _ in rows]),
        TRAINED: _average([b for _, b in rows]),
        "gain": study.mean([b - a for a, b in rows]),
        "lower": _average([float(b < a - CLOSE) for a, b in rows]),
    }


def _assumption_3_1(study: Study) -> Table:
    expert = [_feature_of(node) for graph in study.graphs for node in graph.path]
    tables: Table = {
        "from": "total-variation distances. off_path: by step the share of episodes that are not (or no longer) in the "
        "expert's state, which is the distance of that step; states: of a layout's expert states, each the same "
        "weight, and all states that its episodes meet, exactly counted, then the mean over layouts; features: "
        "(fewest steps, expert's verb) over all layouts. With few episodes the last two are too large",
        "training_to_expert_features": _distance(study.training, expert),
    }
    for name, measured in study.policies.items():
        met = [f for plays in measured.plays for play in plays for f in play.features]
        tables[name] = {
            "off_path": study.mean(study.by_layout(_mean_off_path, name)),
            "states": study.mean(study.by_layout(_state_distance, name)),
            "expert_to_met_features": _distance(expert, met),
            "training_to_met_features": _distance(study.training, met),
            "met": len(met),
        }
    return tables


def _feature_of(node: Node) -> Feature:
    return feature(node.distance, node.expert)


def _distance(a: Sequence[Feature], b: Sequence[Feature]) -> float | None:
    return total_variation(Counter(a), Counter(b)) if a and b else None


def _mean_off_path(measured: Measured, graph: LayoutGraph, layout: int) -> float:
    return _average(off_path(graph, measured.plays[layout]))


def _state_distance(measured: Measured, graph: LayoutGraph, layout: int) -> float:
    met = [state for play in measured.plays[layout] for state in play.states]
    return total_variation(Counter(graph.states[: graph.horizon]), Counter(met))


def _horizons(study: Study) -> Table:
    longest = sorted({graph.horizon for graph in study.graphs})
    tables: Table = {
        "from": "layouts by the expert's steps; success: share of episodes that reach the goal, in whatever steps; "
        "fewest: in the fewest; recursion: product of scored p(s); off_path: see assumption_3_1, loss_term: the "
        "same times the horizon, linear as in the bounded variant, up to its constant"
    }
    for name in study.policies:
        tables[name] = [_horizon(study, name, horizon) for horizon in longest]
    return tables


def _horizon(study: Study, name: str, horizon: int) -> Table:
    at = [(i, graph) for i, graph in enumerate(study.graphs) if graph.horizon == horizon]
    measured = study.policies[name]
    plays = [play for i, _ in at for play in measured.plays[i]]
    away = _average([_mean_off_path(measured, graph, i) for i, graph in at])
    return {
        "horizon": horizon,
        "layouts": len(at),
        "success": _average([float(play.success) for play in plays]),
        "fewest": _average([float(play.fewest) for play in plays]),
        "recursion": _average([measured.path_recursion(graph, i, "scored") for i, graph in at]),
        "p": _average([_average(measured.expert_p(graph, i, "scored")) for i, graph in at]),
        "off_path": away,
        "loss_term": horizon * away,
    }


def _credit(study: Study) -> Table:
    tables: Table = {
        "from": "turns of whole episodes, in groups of one layout, in states whose distance the planner knows; true: "
        "d(s) - 1 - d(s'), d the fewest steps to the goal, so 0 for an optimal action; estimators as in "
        "grpo.advantages; zero: no advantage; right_sign: of the others, positive for an optimal action and negative "
        "for any other; noise: share of the variance that is left where state and action are the same; intervals "
        "from layouts drawn with replacement, ranks from all"
    }
    for name, layouts in study.credit.items():
        true = [value for each in layouts for value in each.true_U.tolist()]
        tables[name] = {
            "turns": len(true),
            "optimal": _average([float(value == 0) for value in true]) if true else None,
            "estimators": agreement(layouts, seed=study.seed),
        }
    return tables


def _states(study: Study) -> Iterator[Table]:
    """Every expert state with both policies' estimates; prefix: P(the expert's way up to and with this state)."""
    for i, graph in enumerate(study.graphs):
        prefixes = {name: prefix_success(m.expert_p(graph, i, "scored")) for name, m in study.policies.items()}
        for step, node in enumerate(graph.path):
            low, high = _change(study, i, step)
            row: Table = {
                "task": graph.problem.task,
                "layout": graph.problem.layout,
                "step": step,
                "distance": node.distance,
                "expert": node.expert,
                "optimal_actions": len(node.optimal),
                "sampled_change_low": low,
                "sampled_change_high": high,
            }
            for name, measured in study.policies.items():
                row[name] = {**_state(measured, i, step, tuple(node.optimal)), "prefix": prefixes[name][step]}
            yield row


def _state(measured: Measured, layout: int, step: int, optimal: Sequence[str]) -> Table:
    answers = measured.answers[layout][step]
    taken = round(answers.sampled_GA[:, 0].sum())
    low, high = wilson_interval(taken, answers.n)
    error = float(answers.scored_GA[:, 0].std(ddof=1)) / answers.n**0.5 if answers.n > 1 else None
    by = {e: answers.probabilities(e) for e in ESTIMATORS}
    return {
        "n": answers.n,
        "sampled": taken / answers.n,
        "low": low,
        "high": high,
        "scored": by["scored"][answers.actions[0]],
        "scored_standard_error": error,
        "celled": answers.celled,
        "optimal_sampled": sum(by["sampled"][action] for action in optimal),
        "optimal_scored": sum(by["scored"][action] for action in optimal),
    }
