"""How many parts a batch is really taken in: more than its rows can fill would only be padding.

Every part has rows for every device, so a batch of fewer rows than devices x parts is padded up to that. The parts that
a config asks for bound the rows that a device takes at one time, and so its memory; the fewest parts that keep within
that bound pad least.
"""

import dataclasses

from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.config.training import plays_episodes
from stgrpo.errors import UserError


@dataclasses.dataclass(frozen=True)
class Groups:
    """Prompts with their responses, all as long as their limits.

    Attributes:
        count: of prompts.
        prompt: tokens of one.
        group: responses to one.
        response: tokens of one.
    """

    count: int
    prompt: int
    group: int
    response: int

    @property
    def longest(self) -> int:
        """Tokens of a prompt and its responses."""
        return self.prompt + self.group * self.response


def largest_batch(config: ConfigDict, stage: str) -> Groups:
    """What a stage gives to an update at most; of whole episodes, whose turns nobody knows, what it gives at least."""
    P, R = config.limits.prompt, config.limits.response
    if stage == "sft":
        return Groups(config.sft.batch, P, 1, R)
    g = config.grpo
    asked = g.prompts * g.group_size if plays_episodes(config) else g.prompts  # an episode asks once at least
    return Groups(asked // g.minibatches, P, g.group_size, R)


def part_count(rows: int, shards: int, wanted: int) -> int:
    """The fewest parts in which a device takes no more rows at one time than in `wanted`; those, where they are full.

    Args:
        rows: of the largest batch.
        shards: devices that rows are split over.
        wanted: parts that the config asks for.
    """
    a_time = -(-rows // (shards * wanted))
    return -(-rows // (shards * a_time))


def micro_batch_count(config: ConfigDict, stage: str, mesh: Mesh) -> int:
    """Parts that the batches of a training stage are taken in on the devices of a mesh."""
    return part_count(most_rows(config, stage), row_shards(mesh), config[stage].micro_batches)


def row_shards(mesh: Mesh) -> int:
    """Devices that the rows of a batch are split over."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def row_unit(config: ConfigDict, stage: str, mesh: Mesh) -> int:
    """What the rows of a batch are padded to a multiple of: every part has rows for every device."""
    return row_shards(mesh) * micro_batch_count(config, stage, mesh)


def most_rows(config: ConfigDict, stage: str) -> int:
    """Rows of the largest batch of a stage before padding: one an example or group, or what packing needs for them.

    Packed by first fit, every row but one has as many examples as fit at their longest.
    """
    batch = largest_batch(config, stage)
    return -(-batch.count // max(1, config[stage].row_tokens // batch.longest))


def said_of_parts(config: ConfigDict, stage: str, mesh: Mesh) -> list[str]:
    """A line for people where a batch is taken in fewer parts than the config asks for; else none."""
    wanted, rows = config[stage].micro_batches, most_rows(config, stage)
    parts = micro_batch_count(config, stage, mesh)
    if parts == wanted:
        return []
    padded = -(-rows // (row_shards(mesh) * wanted)) * row_shards(mesh) * wanted
    return [
        f"{stage}.micro_batches={wanted} would pad {rows} rows to {padded} on {row_shards(mesh)} devices: "
        f"batches are taken in {parts}"
    ]


def check_batch(config: ConfigDict, stage: str, mesh: Mesh) -> None:
    """Raises a UserError if a batch cannot be split over the devices; packed rows and episodes are filled up."""
    if config[stage].row_tokens or (stage == "grpo" and plays_episodes(config)):
        return
    name, number = {"sft": ("batch", config.sft.batch), "grpo": ("prompts", config.grpo.prompts)}[stage]
    parts = {"micro_batches": micro_batch_count(config, stage, mesh)}
    if stage == "grpo":
        parts = {"minibatches": config.grpo.minibatches} | parts
    unit, names = row_shards(mesh), f"the mesh's data × fsdp = {row_shards(mesh)}"
    for part, count in parts.items():
        unit *= count
        names += f" × {count} {part}" if count > 1 else ""
    if number % unit:
        fix = f"use {stage}.{name}={-(-number // unit) * unit} or other mesh sizes"
        raise UserError(f"{stage}.{name}={number} is not a multiple of {names}: {fix}")
