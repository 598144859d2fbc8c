"""The paper's experiment (arXiv 2509.20616): Qwen2.5-Instruct, SFT then GRPO, on one Robotouille task.

    stgrpo run --config=configs/qwen2_5.py:1.5b,burger --workdir=runs/burger --config.model.path=Qwen2.5-1.5B-Instruct

`model.path` is a local Hugging Face folder; nothing is downloaded. Not run by us for want of weights: the numbers to
compare with are the paper's (1.5b), SR .2 after SFT and .7 after GRPO on the ten benchmark layouts of the burger task.
`stgrpo plan` with the same arguments says what an update takes on a given TPU topology or on the devices at hand.

    stgrpo run --config=configs/qwen2_5.py:7b,burger,h100-8 ...     laid out for a place: a mesh and parts that fit it
    stgrpo plan --config=configs/qwen2_5.py:7b,burger,h100-8 --topology=h100-8

The places are planned for in docs/plan.md. The experiment is the same on all of them but where a model does not fit
otherwise: then AdamW's moments are bfloat16, or adapters are trained.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from stgrpo.config import base
from stgrpo.errors import UserError, nearest
from stgrpo.models.shapes import named_shapes

_MOMENTS = {"sft.moment_dtype": "bfloat16", "grpo.moment_dtype": "bfloat16"}
_ADAPTERS = {"lora.rank": 16, "lora.base_dtype": "bfloat16"}
PLACES: Mapping[str, Mapping[str, object]] = {  # parts of a GRPO batch, so that a device has four rows at one time
    "h100-1": {"grpo.micro_batches": 64},
    "h100-4": {"grpo.micro_batches": 16},
    "h100-8": {"grpo.micro_batches": 8},
    "h100-16": {"grpo.micro_batches": 4},
    "v5e-8": {"grpo.micro_batches": 8},
    "v5e-16": {"grpo.micro_batches": 4},
    "v5p-8": {"grpo.micro_batches": 16},
    "v6e-8": {"grpo.micro_batches": 8},
    "v6e-256": {"grpo.micro_batches": 1},
}
_HOST_OF_4 = {"mesh.tensor": 4}  # a host draws with weights that are whole on its four chips, not on each of them
_FEW = {"rollout.batch": 128}
TIGHT: Mapping[tuple[str, str], Mapping[str, object]] = {  # what else a size needs in a place
    ("h100-1", "3b"): _MOMENTS,
    ("h100-1", "7b"): _ADAPTERS,
    ("h100-1", "14b"): _ADAPTERS | _FEW,
    ("h100-4", "14b"): _ADAPTERS,
    ("h100-16", "14b"): _HOST_OF_4 | {"grpo.micro_batches": 16},
    ("v5e-8", "3b"): _HOST_OF_4 | _FEW | {"grpo.micro_batches": 32},
    ("v5e-8", "7b"): _HOST_OF_4 | _FEW | _ADAPTERS | {"grpo.micro_batches": 32},
    ("v5e-16", "3b"): _HOST_OF_4 | _FEW | {"grpo.micro_batches": 16},
    ("v5e-16", "7b"): _HOST_OF_4 | _FEW | _ADAPTERS | {"grpo.micro_batches": 16},
    ("v5p-8", "14b"): _MOMENTS,
    ("v6e-8", "7b"): _HOST_OF_4 | {"grpo.micro_batches": 32},
    ("v6e-8", "14b"): _HOST_OF_4 | _FEW | _ADAPTERS | {"grpo.micro_batches": 32},
    ("v6e-256", "0.5b"): {"mesh.data": 2},  # its width is no multiple of 256
    ("v6e-256", "7b"): _HOST_OF_4,
    ("v6e-256", "14b"): _HOST_OF_4,
}
TOO_SMALL = {("v5e-8", "14b"), ("v5e-16", "14b")}
TASKS = ("cheese_sandwich", "burger", "cheese_burger", "double_cheese_burger")


def get_config(arg: str = "1.5b,burger") -> ConfigDict:
    """`arg`: SIZE,TASK[,PLACE], such as "1.5b,burger,v5e-16"; what is left out is the one of this default."""
    places = [part for part in arg.split(",") if part in PLACES]
    others = ",".join(part for part in arg.split(",") if part not in places)
    c = published("configs/qwen2_5.py", "qwen2.5-", "1.5b", others)
    for place in places:
        lay_out(c, place, c.model.name.removeprefix("qwen2.5-"))
    return c


def lay_out(c: ConfigDict, place: str, size: str) -> None:
    """Sets what a place wants for a size of the model.

    Raises:
        UserError: it is too small.
    """
    if (place, size) in TOO_SMALL:
        raise UserError(f"configs/qwen2_5.py: {size} does not fit {place}, not even with adapters: use a larger one")
    c.update_from_flattened_dict({**PLACES[place], **TIGHT.get((place, size), {})})


def published(file: str, prefix: str, size: str, arg: str) -> ConfigDict:
    """The experiment with a published model: `arg` is SIZE,TASK of the models whose names begin with `prefix`."""
    sizes = [name.removeprefix(prefix) for name in named_shapes() if name.startswith(prefix)]
    task = "burger"
    for part in filter(None, arg.split(",")):
        if part in sizes:
            size = part
        elif part in TASKS:
            task = part
        else:
            raise UserError(f"{file} has no variant {part!r}: {nearest(part, [*sizes, *TASKS])}")
    c = base()
    c.env.tasks = (task,)
    c.evaluation.tasks = TASKS  # the paper's table of generalisation has all four
    on_accelerators(c, prefix + size)
    c.sft.row_tokens = 2048  # not in paper
    c.grpo.row_tokens = 4096  # not in paper
    return c


def on_accelerators(c: ConfigDict, model: str) -> None:
    """A published model in bfloat16, cut over all devices that there are."""
    c.model.name = model
    c.model.dtype = "bfloat16"
    c.mesh.data = 1
    c.mesh.fsdp = -1
    c.grpo.group_size = 8  # not in paper
    c.grpo.micro_batches = 8
    c.rollout.batch = 512
