"""Export: a checkpoint becomes a Hugging Face folder that `transformers` and vLLM load."""

import logging
from pathlib import Path

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.models.huggingface import save_folder
from stgrpo.models.sharding import make_mesh
from stgrpo.stages.console import say
from stgrpo.stages.policies import read_policy
from stgrpo.stages.start import abstract_model
from stgrpo.training.checkpointing import load_record

log = logging.getLogger(__name__)
_PROBE = "table1 holds patty2, and the robot isn't at stove1.\n\n1) Move robot1 from table1 to stove1"


def export_checkpoint(checkpoint: Path, folder: Path, dtype: str) -> None:
    """Writes the policy of one step folder, its adapters merged, and the tokenizer it carries.

    Raises:
      UserError: `checkpoint` is none, or `folder` holds something.
    """
    record = load_record(checkpoint)
    params = read_policy(checkpoint, abstract_model(record.shape, make_mesh(data=1, fsdp=-1)))
    tokenizer = Tokenizer.from_files(record.tokenizer)
    save_folder(params, tokenizer, folder, dtype=dtype)
    say(f"export: {record.stage} step {record.step} as {dtype} in {folder}")
    if not _auto_reads_alike(folder, tokenizer):
        log.warning(
            "AutoTokenizer puts the pre-tokenizer of this model's family in place of the one in tokenizer.json: "
            "load the tokenizer of %s with PreTrainedTokenizerFast, or give servers token ids",
            folder,
        )


def _auto_reads_alike(folder: Path, tokenizer: Tokenizer) -> bool:
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    return auto.encode(_PROBE, add_special_tokens=False) == tokenizer.base.encode(_PROBE, add_special_tokens=False)
