"""Serve: a vLLM server with the flags that training and evaluation need, on this machine."""

import contextlib
import logging
import tempfile
from collections.abc import Generator
from pathlib import Path

from ml_collections import ConfigDict

from stgrpo.console import say
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import ServerError, UserError
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.huggingface.weights import save_folder
from stgrpo.models.sharding import make_mesh
from stgrpo.sampling.open import interpreter, served_dtype, served_length
from stgrpo.sampling.vllm.server import ServerSettings, VllmServer
from stgrpo.stages.flags import LOOPBACK
from stgrpo.training.checkpointing import load_metadata
from stgrpo.training.policies import read_policy
from stgrpo.training.start import abstract_model

log = logging.getLogger(__name__)


def serve(config: ConfigDict, checkpoint: str = "", *, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves until it is interrupted.

    Args:
        config: its `rollout` and `limits` say how.
        checkpoint: a step folder whose policy is served; empty for the model in `model.path`.
        host: to listen on.
        port: to listen on.

    Raises:
        UserError: there is nothing to serve, or no vLLM.
        ServerError: vLLM did not start, or ended by itself.
    """
    if host not in LOOPBACK:
        log.warning("vLLM asks nobody who they are: whoever reaches %s:%d can replace its weights", host, port)
    with _model(config, checkpoint) as model:
        settings = ServerSettings(
            model=model,
            shape=read_shape(model),
            dtype=served_dtype(config),
            length=served_length(config),
            python=interpreter(config),
            host=host,
            port=port,
            extra=tuple(config.rollout.flags),
        )
        with VllmServer(settings, None) as server:
            server.start()
            say(f"serve: {server.address} is ready; give it to a run as rollout.servers=('{server.address}',)")
            status = server.wait()
    raise ServerError(f"vLLM ended with {status}: see above")


@contextlib.contextmanager
def _model(config: ConfigDict, checkpoint: str) -> Generator[Path]:
    """A Hugging Face folder with what is to be served."""
    if not checkpoint:
        if not config.model.path:
            raise UserError("nothing to serve: give --checkpoint=RUN/checkpoints/sft/STEP, or config.model.path")
        yield Path(config.model.path)
        return
    record = load_metadata(Path(checkpoint))
    params = read_policy(Path(checkpoint), abstract_model(record.shape, make_mesh(data=1, fsdp=-1)))
    with tempfile.TemporaryDirectory(prefix="stgrpo-serve-") as folder:
        model = Path(folder) / "model"
        save_folder(params, Tokenizer.from_files(record.tokenizer), model, dtype=served_dtype(config))
        del params
        yield model
