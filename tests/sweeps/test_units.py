"""What the points of a sweep have in common is done once; nothing is, that depends on what differs."""

import pytest

from stgrpo.config import FIELDS, base
from stgrpo.errors import UserError
from stgrpo.files import from_json
from stgrpo.stages.sweep import check_models
from stgrpo.sweeps.grid import points_of
from stgrpo.sweeps.plan import Plan, check_folder, read_plan, write_plan
from stgrpo.sweeps.units import units_of
from stgrpo.workdir.keys import STAGES_WITHOUT, stage_key


def units(changes=(), **values):
    config = base()
    config.update_from_flattened_dict({"model.name": "custom", **dict(changes)})
    return units_of(Plan.of(config, points_of({name.replace("__", "."): v for name, v in values.items()})))


def shown(found):
    return [(u.name.partition("-")[0], u.stages, u.given, u.parent.partition("-")[0]) for u in found]


def test_a_sweep_of_grpo_has_one_sft_that_plays_too():
    trained = ("collect", "sft")
    assert shown(units(grpo__kl_coef=[0.1, 0.2])) == [
        ("shared/sft", ("collect", "sft", "evaluate"), (), ""),
        ("points/kl_coef=0.1", ("run",), trained, "shared/sft"),
        ("points/kl_coef=0.2", ("run",), trained, "shared/sft"),
    ]


def test_what_only_grpo_has_leaves_sft_to_all():
    assert units(critic__learning_rate=[1e-5, 1e-4])[0].stages == ("collect", "sft", "evaluate")


def test_a_sweep_over_seeds_has_the_planners_data_once_and_a_served_experts_for_each():
    assert shown(units(seed=[0, 1])) == [
        ("shared/collect", ("collect",), (), ""),
        ("points/seed=0", ("run",), ("collect",), "shared/collect"),
        ("points/seed=1", ("run",), ("collect",), "shared/collect"),
    ]
    served = {"expert.kind": "llm", "expert.server": "http://x", "expert.model": "m"}
    assert shown(units(served, seed=[0, 1])) == [
        ("points/seed=0", ("run",), (), ""),
        ("points/seed=1", ("run",), (), ""),
    ]


def test_each_seed_has_its_own_sft_under_the_data_of_all():
    found = units(seed=[0, 1], grpo__kl_coef=[0.1, 0.2])
    assert [(u.depth, u.name.partition("/")[0], u.stages) for u in found] == [
        (0, "shared", ("collect",)),
        *[(1, "shared", ("sft", "evaluate")), (2, "points", ("run",)), (2, "points", ("run",))] * 2,
    ]
    assert found[1].name != found[4].name and found[2].parent == found[1].name and found[6].parent == found[4].name
    assert found[2].given == ("collect", "sft") and found[4].point == "seed=1,kl_coef=0.1"


def test_a_sweep_of_how_many_layouts_are_played_trains_once_and_one_of_how_they_are_played_shares_sft():
    trained = ("collect", "sft", "grpo")
    assert [u.stages for u in units(evaluation__layouts=[5, 6])] == [trained, ("run",), ("run",)]
    # Validation plays in the same way, and keeps the best checkpoint by that.
    found = units(evaluation__temperature=[0.0, 1.0])
    assert [u.stages for u in found] == [("collect", "sft"), ("run",), ("run",)]  # and nothing is played that differs


def test_a_tokenizer_that_is_made_of_prompts_depends_on_their_form():
    assert [u.stages for u in units(prompt__history=["none", "last_action"])] == [("run",), ("run",)]
    assert [u.stages[0] for u in units(sft__learning_rate=[1e-3, 1e-4])] == ["collect", "run", "run"]


def test_adapters_that_sft_does_not_train_are_no_part_of_it():
    grpo_alone = {"lora.stages": ("grpo",)}
    assert [u.stages[-1] for u in units(grpo_alone, lora__rank=[4, 8])] == ["evaluate", "run", "run"]
    assert [u.stages[-1] for u in units(lora__rank=[4, 8])] == ["collect", "run", "run"]


@pytest.mark.parametrize("stage", sorted(STAGES_WITHOUT))
def test_a_field_counts_for_a_stage_unless_it_is_named(stage):
    fields = from_json(base().to_json())
    new = {**fields, "env": {**fields["env"], "new": 1}}
    assert stage_key(new, stage) != stage_key(fields, stage)
    names = {*FIELDS, *(field.partition(".")[0] for field in FIELDS)}
    assert set(STAGES_WITHOUT[stage]) <= names


def test_a_sweep_may_grow_in_its_folder_and_nothing_else(tmp_path):
    def plan(*seeds, **fields):
        config = base()
        config.update_from_flattened_dict(fields)
        return Plan.of(config, points_of({"seed": list(seeds)}))

    write_plan(tmp_path, plan(0, 1))
    check_folder(tmp_path, plan(0, 1, 2, **{"mesh.fsdp": 2}))
    for other, says in ((plan(0, 2), "the point seed=1"), (plan(0, 1, **{"sft.batch": 3}), "sft.batch: 3 here")):
        with pytest.raises(UserError, match=says):
            check_folder(tmp_path, other)
    write_plan(tmp_path, plan(0, 1, 2))
    assert read_plan(tmp_path) == plan(0, 1, 2)
    assert read_plan(tmp_path).config_of("seed=2").seed == 2


def test_a_point_has_the_config_of_the_command_that_sets_it_all():
    values = {"env.tasks": [("burger",), ("burger", "onion_soup")], "grpo.kl_coef": [0.5], "expert.kind": ["llm"]}
    plan = Plan.of(base(), points_of(values))
    config = base()
    config.update_from_flattened_dict(
        {"env.tasks": ("burger", "onion_soup"), "grpo.kl_coef": 0.5, "expert.kind": "llm"}
    )
    assert plan.config_of("tasks=burger+onion_soup,kl_coef=0.5,kind=llm").to_json() == config.to_json()
    assert plan.config_of("tasks=burger,kl_coef=0.5,kind=llm").env.tasks == ("burger",)


def test_models_that_points_start_from_are_looked_at_before_anything_is_made(tmp_path):
    config, there = base(), tmp_path / "none"
    plan = Plan.of(config, points_of({"init_from": ["", str(there)]}))
    with pytest.raises(UserError, match="^init_from=.*none is not a checkpoint"):
        check_models(plan, tmp_path)
    write_plan(tmp_path, plan)
    check_models(plan, tmp_path)  # begun, so it has what it starts from
    more = Plan.of(config, points_of({"init_from": ["", str(there), str(tmp_path / "other")]}))
    with pytest.raises(UserError, match="other is not a checkpoint"):
        check_models(more, tmp_path)
