"""What vLLM's workers run for the trainer: who holds the server, new weights, and a checksum of what is held.

The server imports this module by `--worker-extension-cls=stgrpo.sampling.vllm.worker.WeightReceiver` and calls its
methods by `/collective_rpc`. It needs no more than a vLLM environment has: torch, safetensors, the standard library.
Arguments are strings, results JSON. An error is a result too ("error"), since vLLM hides the message of an exception.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from safetensors import safe_open

FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
HEAD = "lm_head.weight"

Module = Any
"""A `torch.nn.Module` of vLLM, whose own classes are not known here."""


class Refused(Exception):
    """A reason not to do what was asked; nothing was changed."""


class WeightReceiver:
    """Mixed into vLLM's worker: every attribute has a name that the worker does not."""

    vllm_config: Any  # of the worker that it is mixed into, as are its methods below
    get_model: Callable[[], Any]
    reload_weights: Callable[..., None]
    stgrpo_run = ""  # who holds the server
    stgrpo_version = -1  # of the weights it holds; -1: those it started with, or a load that did not end
    stgrpo_contact = 0.0  # when the holder last asked for something

    def stgrpo_describe(self) -> dict[str, object]:
        """The served model and the settings on which samples depend."""
        import vllm

        model, parallel = self.vllm_config.model_config, self.vllm_config.parallel_config
        return {
            "vllm": vllm.__version__,
            "model": model.hf_config.to_dict(),
            "dtype": str(model.dtype).removeprefix("torch."),
            "max_model_len": model.max_model_len,
            "logprobs_mode": str(getattr(model.logprobs_mode, "value", model.logprobs_mode)),
            "generation_config": model.generation_config,
            "quantization": model.quantization,
            "pipeline": parallel.pipeline_parallel_size,
        }

    def stgrpo_claim(self, run: str, seconds: str) -> dict[str, object]:
        """Makes `run` the holder, unless another one was in contact within the last `seconds`.

        Returns:
            The holder's name, the version of the weights, and the seconds since the holder was last in contact.
        """
        idle = time.monotonic() - self.stgrpo_contact
        if self.stgrpo_run in ("", run) or idle > float(seconds):
            if self.stgrpo_run != run:
                self.stgrpo_version = -1  # whatever is held is not this run's
            self.stgrpo_run, self.stgrpo_contact = run, time.monotonic()
        return {"run": self.stgrpo_run, "version": self.stgrpo_version, "idle": idle}

    def stgrpo_holder(self, run: str) -> dict[str, object]:
        """Who holds the server, and the version of its weights; counts as contact where that is `run`."""
        if self.stgrpo_run == run:
            self.stgrpo_contact = time.monotonic()
        return {"run": self.stgrpo_run, "version": self.stgrpo_version}

    def stgrpo_release(self, run: str) -> dict[str, object]:
        """Lets others have the server, if `run` holds it."""
        if self.stgrpo_run == run:
            self.stgrpo_run = ""
        return {"run": self.stgrpo_run}

    def stgrpo_load(self, run: str, version: str, path: str) -> dict[str, object]:
        """Loads a whole new version from a safetensors file, after everything about it was checked.

        Returns:
            "sums": a checksum by tensor of what is held afterwards, and "seconds"; or "error".
        """
        start = time.perf_counter()
        try:
            if self.stgrpo_run != run:
                raise Refused(f"the server is held by {self.stgrpo_run or 'nobody'}, not by {run}")
            self.stgrpo_contact = time.monotonic()
            self._stgrpo_reload(path)
            sums = checksums(self.get_model())
        except Exception as error:  # noqa: BLE001 of any kind: a worker that raises says nothing and may take the server down
            return {"error": f"{type(error).__name__}: {error}" if not isinstance(error, Refused) else str(error)}
        self.stgrpo_version, self.stgrpo_contact = int(version), time.monotonic()
        return {"sums": sums, "seconds": time.perf_counter() - start}

    def _stgrpo_reload(self, path: str) -> None:
        from safetensors import safe_open

        with safe_open(path, framework="pt", device="cpu") as file:
            check_file(file, self.get_model(), str(self.vllm_config.model_config.dtype).removeprefix("torch."))
            self.stgrpo_version = -1  # from here on what is held is neither the old nor the new
            self.reload_weights(weights_iterator=((name, file.get_tensor(name)) for name in file.keys()))
        repack_tied_head(self.get_model())


def check_file(file: "safe_open", model: Module, dtype: str) -> None:
    """See `check_tensors`."""
    slices = {name: file.get_slice(name) for name in file.keys()}
    codes = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    found = {name: (list(s.get_shape()), codes.get(s.get_dtype(), s.get_dtype())) for name, s in slices.items()}
    check_tensors(found, model, dtype)


def check_tensors(found: Mapping[str, tuple[list[int], str]], model: Module, dtype: str) -> None:
    """Compares the names, shapes and dtypes of what is to be loaded with the served model.

    Raises:
        Refused: they differ. A wrong shape would break the engine for good, a missing tensor would keep its old values,
            and a head sent to a tied model would overwrite the embedding.
    """
    wanted = {name: shape for module in leaves(model) for name, shape in whole_shapes(*module)}
    if missing := sorted(wanted.keys() - found.keys()):
        raise Refused(f"the file lacks {len(missing)} tensors of the served model, the first is {missing[0]}")
    if extra := sorted(found.keys() - wanted.keys()):
        raise Refused(f"the file has {len(extra)} tensors that the served model does not, the first is {extra[0]}")
    for name, shape in wanted.items():
        given, kind = found[name]
        if given != shape:
            raise Refused(f"{name} has shape {given} in the file, {shape} in the served model")
        if kind != dtype:
            raise Refused(f"{name} is {kind} in the file, the model is served in {dtype}")


def leaves(model: Module) -> Iterator[tuple[str, Module]]:
    """The modules that hold parameters of the checkpoint, a tied head left out."""
    tied = model.config.tie_word_embeddings
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None and not (tied and name == "lm_head"):
            yield name, module


def whole_shapes(name: str, module: Module) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes that a checkpoint has for one module, over all workers, from the sizes it was made with."""
    kinds = [kind for kind, _ in module.named_parameters(recurse=False)]
    parent, _, last = name.rpartition(".")
    if last in FUSED:
        parts = zip(FUSED[last], whole_rows(module, last), strict=True)
        sizes = [(f"{parent}.{part}", [rows, module.input_size]) for part, rows in parts]
    elif hasattr(module, "org_vocab_size"):
        sizes = [(name, [module.org_vocab_size, module.embedding_dim])]
    elif hasattr(module, "output_size"):
        sizes = [(name, [module.output_size, module.input_size])]
    else:
        sizes = [(name, list(module.weight.shape))]
    for prefix, shape in sizes:
        yield from ((f"{prefix}.{kind}", shape if kind == "weight" else shape[:1]) for kind in kinds)


def whole_rows(module: Module, kind: str) -> list[int]:
    """Rows of each part of a fused map, over all workers."""
    if kind == "qkv_proj":
        keys = module.total_num_kv_heads * module.head_size
        return [module.total_num_heads * module.head_size, keys, keys]
    return list(module.output_sizes)


def repack_tied_head(model: Module) -> None:
    """Packs a tied head again: on CPUs vLLM keeps a packed copy, and reloading leaves that as it was."""
    head = getattr(model, "lm_head", None)
    if head is not None and hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)


def checksums(model: Module) -> dict[str, str]:
    """A checksum of every tensor of the checkpoint as this worker holds it, with the head that makes the logits.

    Fused tensors are taken apart. The sum of 64-bit words is the same however a tensor is split, so those of
    tensor-parallel workers add up to that of the whole.
    """
    modules = dict(leaves(model)) | {"lm_head": model.lm_head}
    return {name: f"{word_sum(tensor):016x}" for module in modules.items() for name, tensor in held(*module)}


def held(name: str, module: Module) -> Iterator[tuple[str, "torch.Tensor"]]:
    """The checkpoint's tensors in one module, by the checkpoint's names."""
    for kind, parameter in module.named_parameters(recurse=False):
        tensor = parameter.data
        if kind == "weight" and hasattr(module, "cpu_linear"):
            tensor = unpacked(module, tensor)
        parent, _, last = name.rpartition(".")
        if last in FUSED:
            parts = tensor.split(part_sizes(module, last))
            yield from ((f"{parent}.{part}.{kind}", rows) for part, rows in zip(FUSED[last], parts, strict=True))
        elif hasattr(module, "shard_indices"):  # a vocabulary is padded with rows that no checkpoint has
            yield f"{name}.{kind}", tensor[: module.shard_indices.num_org_elements]
        else:
            yield f"{name}.{kind}", tensor


def part_sizes(module: Module, kind: str) -> list[int]:
    """Rows of each part of a fused map on this worker."""
    if kind == "qkv_proj":
        queries, keys = module.num_heads * module.head_size, module.num_kv_heads * module.head_size
        return [queries, keys, keys]
    return [size // module.tp_size for size in module.output_sizes]


def unpacked(module: Module, weight: "torch.Tensor") -> "torch.Tensor":
    """What a CPU's packed copy holds, by asking it for the image of every unit vector; exact, each has one product."""
    import torch

    inputs = getattr(module, "input_size_per_partition", 0) or module.embedding_dim
    unit = torch.eye(inputs, dtype=weight.dtype)
    return module.cpu_linear(unit, weight, None).t().contiguous()


def word_sum(tensor: "torch.Tensor") -> int:
    """The sum of a tensor's 64-bit words, the last filled up with zeros, modulo 2**64."""
    import torch

    flat = tensor.contiguous().view(-1).view(torch.uint8)
    whole = flat.numel() // 8 * 8
    total = int(flat[:whole].view(torch.int64).sum()) if whole else 0
    rest = bytes(flat[whole:].cpu().tolist())
    return (total + int.from_bytes(rest, "little")) % 2**64
