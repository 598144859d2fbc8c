"""Declared: what learns; tokenizer, model, adapters, lengths, and how it lies on the devices."""

from stgrpo.config.field import NOT_IN_PAPER, PAPER, Choice, FilePath, Number, Section, Switch, Texts, section
from stgrpo.models.attention.choose import CHOICES
from stgrpo.models.shapes import LINEAR, named_shapes

DTYPES = ("float32", "bfloat16")
TRAINED = ("sft", "grpo")

_SIZE = "of a custom model"

TOKENIZER: Section = section(
    "How text becomes tokens.",
    path=FilePath(
        "",
        "Hugging Face folder; empty: that of model.path, or one trained on the collected data",
        also=("tokenizer_path", "tokenizer_name"),
    ),
    vocab_size=Number(1024, "at most, when it is trained", low=1, high=1_000_000, unit="tokens"),
)

MODEL: Section = section(
    'The model that is trained. Sizes are for `model.name = "custom"` alone.',
    path=FilePath(
        "",
        "Hugging Face folder with the weights; empty: random weights in the shape below",
        also=("model_name_or_path", "model_path", "weights", "checkpoint", "pretrained"),
    ),
    name=Choice(
        "qwen2.5-1.5b",
        "a published shape, or `custom` for the sizes below",
        choices=(*named_shapes(), "custom"),
        source=PAPER,
        also=("model_name", "arch"),
    ),
    width=Number(128, _SIZE, low=1, high=65_536, also=("hidden_size", "d_model", "dim", "n_embd", "emb_dim")),
    depth=Number(2, f"{_SIZE}: layers", low=1, high=1024, also=("num_layers", "layers", "num_hidden_layers")),
    heads=Number(4, f"{_SIZE}, for queries", low=1, high=1024, also=("num_heads", "n_head", "num_attention_heads")),
    kv_heads=Number(
        2, f"{_SIZE}, for keys and values", low=1, high=1024, also=("num_kv_heads", "num_key_value_heads", "kv")
    ),
    head_dim=Number(32, f"{_SIZE}: size of a head", low=1, high=1024, also=("head_size",)),
    mlp_width=Number(
        384, f"{_SIZE}: inner width of the MLP", low=1, high=1_048_576, also=("intermediate_size", "d_ff", "mlp_dim")
    ),
    rope_theta=Number(10_000.0, f"{_SIZE}: base of the rotary positions", above=0, high=10**12, also=("rope_base",)),
    dtype=Choice(
        "float32",
        "of the computation; parameters and optimiser state are float32",
        choices=DTYPES,
        also=("precision", "bf16", "compute_dtype"),
    ),
    attention=Choice(
        "auto",
        "`xla` anywhere, `cudnn` on GPU, `splash` on TPU; `auto`: the best the devices can do",
        choices=CHOICES,
        also=("attn_implementation", "flash_attention", "attn"),
    ),
    remat=Switch(
        True,
        "compute layers again in the backward pass: memory for a third more time",
        also=("gradient_checkpointing", "activation_checkpointing", "checkpointing", "rematerialisation"),
    ),
)

LORA: Section = section(
    "Adapters that are trained while the model stays frozen (arXiv 2106.09685).",
    rank=Number(0, "of the adapters; 0: all is trained", low=0, high=4096, source=NOT_IN_PAPER, also=("r", "lora_r")),
    alpha=Number(
        32.0,
        "what they add is scaled by alpha / rank",
        above=0,
        high=1_000_000,
        source=NOT_IN_PAPER,
        also=("lora_alpha", "scale", "scaling"),
    ),
    targets=Texts(
        tuple(LINEAR),
        "the linear maps that have one",
        each="linear map",
        choices=tuple(LINEAR),
        source=NOT_IN_PAPER,
        also=("target_modules", "modules"),
    ),
    layers=Number(
        0,
        "the last so many that have one, and nothing below takes part in the backward pass; 0: all",
        low=0,
        high=1024,
        source=NOT_IN_PAPER,
        also=("num_layers", "last_layers", "layers_to_transform"),
    ),
    stages=Texts(
        TRAINED,
        "that train adapters; GRPO's lie on the SFT policy, which is its reference",
        each="stage",
        choices=TRAINED,
        source=NOT_IN_PAPER,
    ),
    base_dtype=Choice(
        "float32",
        "of the frozen matrices; `bfloat16` halves them, and rounds those of a float32 start",
        choices=DTYPES,
        source=NOT_IN_PAPER,
    ),
)

LIMITS: Section = section(
    "Lengths.",
    prompt=Number(
        1536,
        "a longer prompt is refused, never cut",
        low=1,
        high=1_048_576,
        unit="tokens",
        source=NOT_IN_PAPER,
        also=("max_prompt_length", "max_prompt_len", "prompt_length"),
    ),
    response=Number(
        256,
        "of a response at most, the stop token included",
        low=1,
        high=1_048_576,
        unit="tokens",
        source=NOT_IN_PAPER,
        also=(
            "max_tokens",
            "max_new_tokens",
            "max_completion_length",
            "max_response_length",
            "response_length",
            "max_output_tokens",
        ),
    ),
)

MESH: Section = section(
    "How the devices are shared out: the product is their number.",
    data=Number(
        -1, "replicas; -1: all devices that are left", low=1, high=1_048_576, besides=-1, also=("dp", "data_parallel")
    ),
    fsdp=Number(
        1, "shards of the parameters along the width; -1: as above", low=1, high=1_048_576, besides=-1, also=("zero",)
    ),
    tensor=Number(
        1,
        "shards along heads, MLP and vocabulary; -1: as above",
        low=1,
        high=1_048_576,
        besides=-1,
        also=("tp", "tensor_parallel", "tensor_parallel_size", "model_parallel"),
    ),
)
