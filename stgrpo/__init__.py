"""Teach a small language model to plan long tasks, one turn at a time (arXiv 2509.20616), in JAX.

Array names end in their axes:

    B prompts             G samples per prompt (the group)
    P prompt length       R response length
    T tokens              S tokens of a row that holds a whole group, P + G * R
    V vocabulary          D model width           F width of the MLP
    N query heads         K key/value heads       H head size         L layers

So `logp_BGR` holds one log-probability per response token, and `adv_BG` one advantage per response.
"""

__version__ = "0.1.0"
