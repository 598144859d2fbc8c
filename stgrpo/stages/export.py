"""Export: a checkpoint becomes a Hugging Face folder that `transformers` and vLLM load."""

import logging
from pathlib import Path

from safetensors import SafetensorError

from stgrpo.console import say
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import RunError
from stgrpo.files import reason_of, way_on
from stgrpo.models.huggingface.tokenizer import auto_reads_alike
from stgrpo.models.huggingface.weights import save_folder
from stgrpo.models.sharding import make_mesh
from stgrpo.training.checkpointing import load_metadata
from stgrpo.training.policies import read_policy
from stgrpo.training.start import abstract_model

log = logging.getLogger(__name__)


def export_checkpoint(checkpoint: Path, folder: Path, dtype: str) -> None:
    """Writes the policy of one step folder, its adapters merged, and the tokenizer it carries.

    Raises:
        UserError: `checkpoint` is none, or `folder` holds something.
        RunError: the disk does not take the folder.
    """
    record = load_metadata(checkpoint)
    params = read_policy(checkpoint, abstract_model(record.shape, make_mesh(data=1, fsdp=-1)))
    tokenizer = Tokenizer.from_files(record.tokenizer)
    try:
        save_folder(params, tokenizer, folder, dtype=dtype)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder} cannot be written ({reason_of(error)}): {way_on(error)}") from error
    say(f"export: {record.stage} step {record.step} as {dtype} in {folder}")
    if not auto_reads_alike(folder, tokenizer):
        log.warning(
            "AutoTokenizer, as this version of transformers has it, reads the tokenizer as another one: "
            "load the tokenizer of %s with PreTrainedTokenizerFast, or give servers token ids",
            folder,
        )
