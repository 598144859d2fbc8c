"""vLLM within the trainer's process, for one host: weights are handed over on the device, by DLPack, without a file.

The environment must have both, this package and vLLM. On a GPU that both use, set XLA_PYTHON_CLIENT_PREALLOCATE=false
and leave vLLM a share of the memory with `rollout.flags`.
"""

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from stgrpo.errors import ServerError, UserError
from stgrpo.models.huggingface.weights import named_arrays, tensors
from stgrpo.models.random import checked_seed
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.base import Samples
from stgrpo.sampling.vllm import worker
from stgrpo.sampling.vllm.sampler import only_tokens
from stgrpo.sampling.vllm.server import ServerSettings, has_gpu, server_flags
from stgrpo.sampling.vllm.weight_sync import differences, differing, word_sum

if TYPE_CHECKING:
    import torch
    import vllm


class LocalVllmSampler:
    """Draws from an engine of vLLM in this process; see `Sampler`. Samples are those of `VllmSampler`."""

    def __init__(self, settings: ServerSettings, stop_ids: Sequence[int], *, batch: int = 256):
        """Starts the engine, which holds nothing yet.

        Args:
            settings: what a server would be given; interpreter, host and port do not matter.
            stop_ids: tokens that end a response.
            batch: the most responses that are decoded at one time.

        Raises:
            UserError: there is no vLLM in this environment, or the engine was given settings that do not fit.
        """
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "rollout.backend='vllm_local' needs vLLM in the trainer's own environment: install it there, "
                "or use rollout.backend='vllm' with rollout.python"
            )
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine in this process, where arrays can be shared
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")
        self._llm = _engine(settings, batch)
        self._worker = self._llm.llm_engine.model_executor.driver_worker.worker
        self._stop_ids, self._shape, self._dtype = tuple(stop_ids), settings.shape, settings.dtype
        self._version: int | None = None
        wrong = list(differences(self._worker.stgrpo_describe(), settings.shape, settings.dtype, settings.length))
        if wrong:
            raise UserError(f"vLLM cannot be used: {'; '.join(wrong)}")

    def generate(
        self, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Samples:
        """See `Sampler.generate`.

        Raises:
            ServerError: no weights were given yet, or the last ones did not get through.
        """
        if self._version is None:
            raise ServerError("no version of the weights was loaded yet")
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        some = only_tokens(self._shape)
        how = [_sampling(params, group_size, seed, self._stop_ids, some) for seed in seeds]
        copies = 1 if params.temperature else group_size
        outputs = [sorted(o.outputs, key=lambda c: c.index) for o in self._llm.generate(asked, how, use_tqdm=False)]
        return Samples(
            tokens=[[list(c.token_ids) for c in group] * copies for group in outputs],
            logprobs=[[_logprobs(c) for c in group] * copies for group in outputs],
            finish=[[c.finish_reason for c in group] * copies for group in outputs],
            version=self._version,
        )

    def update_weights(self, params: Transformer, version: int) -> None:
        """Hands the parameters over and compares what the engine holds then.

        Raises:
            ServerError: they do not fit the model, or did not arrive whole.
        """
        if version == self._version:
            return
        self._version = None
        model, sums = self._worker.get_model(), {}
        found = {t.name: (list(t.shape), self._dtype) for t in tensors(params.shape)}
        try:
            worker.check_tensors(found, model, self._dtype)
        except worker.Refused as error:
            raise ServerError(str(error)) from error
        self._worker.reload_weights(weights_iterator=self._handed_over(params, sums))
        worker.repack_tied_head(model)
        if wrong := differing(sums, [worker.checksums(model)]):
            raise ServerError(f"vLLM holds other values than were sent in {len(wrong)} tensors: {wrong[0]}, ...")
        self._llm.reset_prefix_cache()
        self._version = version

    def _handed_over(self, params: Transformer, sums: dict[str, int]) -> Iterator[tuple[str, "torch.Tensor"]]:
        import torch

        for name, array in named_arrays(params, self._dtype):
            array = _whole(array)
            sums[name] = word_sum(np.asarray(array).reshape(-1).view(np.uint8))
            yield name, torch.from_dlpack(array)


def _whole(array: jax.Array) -> jax.Array:
    """The array on one device, since DLPack knows no shards."""
    device = min(array.devices(), key=lambda d: d.id)
    return array if len(array.devices()) == 1 else jax.device_put(array, device)


def _engine(settings: ServerSettings, batch: int) -> "vllm.LLM":
    from vllm.engine.arg_utils import EngineArgs
    from vllm.entrypoints.llm import LLM
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    of_a_server = ("--host", "--port", "--return-tokens", "--disable-uvicorn")
    flags = [f for f in server_flags(settings, gpu=has_gpu()) if not f.startswith(of_a_server)]
    parsed = EngineArgs.add_cli_args(FlexibleArgumentParser()).parse_args([*flags, f"--max-num-seqs={batch}"])
    values = {k: v for k, v in vars(EngineArgs.from_cli_args(parsed)).items() if v is not None}
    return LLM(**values)


def _sampling(
    params: SamplingParams, group_size: int, seed: int, stop_ids: Sequence[int], some: Mapping[str, object]
) -> "vllm.SamplingParams":
    from vllm import SamplingParams as Theirs

    return Theirs(
        n=group_size if params.temperature else 1,
        seed=checked_seed(seed) * group_size,  # sample k is drawn with seed + k
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k or -1,
        min_p=0.0,
        repetition_penalty=1.0,
        stop_token_ids=list(stop_ids),
        ignore_eos=True,
        logprobs=0,
        detokenize=False,
        **some,
    )


def _logprobs(completion: "vllm.CompletionOutput") -> list[float]:
    values = completion.logprobs
    return [step[token].logprob for step, token in zip(values, completion.token_ids, strict=True)]
