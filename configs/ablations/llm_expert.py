"""The paper's own expert: Llama-3.3-70B-Instruct plays each kitchen until it succeeds, and the shortest way is kept."""

from ml_collections import ConfigDict
from qwen2_5 import get_config as paper


def get_config(arg: str = "1.5b,burger") -> ConfigDict:
    c = paper(arg)
    c.expert.kind, c.expert.model = "llm", "meta-llama/Llama-3.3-70B-Instruct"
    c.expert.server = "http://127.0.0.1:8000"
    return c
