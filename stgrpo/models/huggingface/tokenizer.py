"""A tokenizer beside a model, so that `transformers.AutoTokenizer`, and with it vLLM, reads what tokenizer.json says.

Beside a config.json of the type "qwen2", AutoTokenizer takes the vocabulary and merges of tokenizer.json, but the
normaliser and the pre-tokenizer of Qwen2's own class, whatever class tokenizer_config.json names: a tokenizer that is
not Qwen2's gives other ids there. It does not do so in a folder that brings a class in a file of its own (`auto_map`).
Then the class in tokenizer_config.json counts, which builds what tokenizer.json says; or, for those who trust the code
of the folder, the class in the file, which is the same. Tried with transformers 5.19 and 5.23.
"""

from pathlib import Path

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.files import read_object
from stgrpo.models.huggingface.config import FOLDER, write_json

_MODULE, _CLASS = "tokenization_as_saved", "TokenizerAsSaved"
_CODE = f'''"""The tokenizer of tokenizer.json as it is; AutoTokenizer would put Qwen2's pre-tokenizer in its place."""

from transformers import PreTrainedTokenizerFast


class {_CLASS}(PreTrainedTokenizerFast):
    pass
'''
_PROBE = "table1 holds patty2, and the robot isn't at stove1.\n\n1) Move robot1 from table1 to stove1"


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the tokenizer's files beside a config.json, which must be there, and what AutoTokenizer needs besides."""
    tokenizer.save(folder)
    if auto_reads_alike(folder, tokenizer):
        return
    (folder / f"{_MODULE}.py").write_text(_CODE, encoding="utf-8")
    settings = read_object(folder / "tokenizer_config.json", FOLDER)
    write_json(
        folder / "tokenizer_config.json", {**settings, "auto_map": {"AutoTokenizer": [None, f"{_MODULE}.{_CLASS}"]}}
    )


def auto_reads_alike(folder: Path, tokenizer: Tokenizer) -> bool:
    """Whether AutoTokenizer makes of a folder the tokenizer that was saved there."""
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    ids = tokenizer.base.encode(_PROBE, add_special_tokens=False)
    return auto is not None and auto.encode(_PROBE, add_special_tokens=False) == ids
