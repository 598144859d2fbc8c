"""What a stage would do, without doing it: the resolved config, the sizes, the memory of the train state."""

import logging

import jax
from ml_collections import ConfigDict

from stgrpo.config.checks import refuse_constraint
from stgrpo.evaluation.model_folders import check_prompts, model_policy, playing_config
from stgrpo.evaluation.suites import suite_size, suites
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.plan.estimate import update_memory
from stgrpo.plan.fits import doubts_of_memory
from stgrpo.plan.programs import stage_programs
from stgrpo.plan.requests import plan_expert, plan_policy
from stgrpo.plan.sizes import size_text, state_parts
from stgrpo.plan.topologies import target
from stgrpo.training.inputs import check_given
from stgrpo.training.start import starting_shape
from stgrpo.training.step import TrainProgram

log = logging.getLogger(__name__)


def describe(stage: str, config: ConfigDict) -> str:
    """Lines for a person: config, mesh, model, train state a device, tokens a step; requests to servers.

    Raises:
        UserError: the mesh does not fit the devices of this machine, or the config is not for this stage.
    """
    if stage in ("collect", "grpo", "run"):
        refuse_constraint(config, stage)
    if stage in ("collect", "sft", "run"):
        check_given(config, weights=stage != "collect")
    lines = [str(config), f"stage    {stage}"]
    if stage in ("evaluate", "run") and config.policy.kind == "server":
        lines += plan_policy(config)
    if stage in ("evaluate", "run") and config.policy.kind == "model":
        lines += _model(config)
    if stage in ("collect", "run") and config.expert.kind == "llm":
        lines += plan_expert(config)
    if stage != "evaluate" or config.policy.kind == "checkpoint":
        lines[2:2] = _training(config)
    return "\n".join(lines)


def _model(config: ConfigDict) -> list[str]:
    """On an evaluation of a Hugging Face folder."""
    config = playing_config(config)
    policy = model_policy(config)
    check_prompts(config, policy.tokenizer)
    counts = ", ".join(f"{suite_size(config, suite)} layouts {suite.name}" for suite in suites(config))
    return [f"policy   {_count(policy.shape)} parameters of {policy.tokenizer.source}, as {policy.name}: {counts}"]


def _training(config: ConfigDict) -> list[str]:
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    shape = starting_shape(config)
    stages = {stage: stage_programs(config, stage, target("")) for stage in ("sft", "grpo")}
    programs = {stage: found.program for stage, found in stages.items()}
    for found in stages.values():
        for line in doubts_of_memory(found):
            log.warning("%s", line)
    P, R, g = config.limits.prompt, config.limits.response, config.grpo
    return [
        f"devices  {len(jax.devices())} x {jax.devices()[0].device_kind}, mesh {dict(mesh.shape)}",
        f"model    {_count(shape)} parameters, {shape.depth} layers of width {shape.width}, "
        f"attention by {programs['grpo'].model.core.name}",
        *(_state(name, steps) for name, steps in programs.items()),
        "memory   of an update, about, at its longest: "
        + ", ".join(f"{name} {size_text(update_memory(found))} a device" for name, found in stages.items()),
        f"sft      {config.sft.batch} examples of at most {P + R} tokens an update",
        f"grpo     {g.prompts} prompts x {g.group_size} responses: "
        f"at most {g.prompts * (P + g.group_size * R):,} tokens a rollout "
        f"(one row a response: {g.prompts * g.group_size * (P + R):,})",
    ]


def _state(stage: str, steps: TrainProgram) -> str:
    parts = state_parts(steps, reference=stage == "grpo")
    named = ", ".join(f"{name} {size_text(size)}" for name, size in parts.items())
    return f"state    {stage}: {size_text(sum(parts.values()))} a device ({named})"


def _count(shape: ModelShape) -> str:
    return f"{shape.parameter_count():,}"
