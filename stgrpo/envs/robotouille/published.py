"""The paper's results (arXiv 2509.20616, tables of section V), to stand beside ours: ten layouts a task."""

from stgrpo.protocol import PublishedResult, PublishedTable

LAYOUTS = 10
HEADING = "The paper, Qwen2.5-1.5B-Instruct unless named otherwise"
POLICIES = (
    "Llama3.3-70B, the expert",
    "Qwen2.5-1.5B",
    "Qwen2.5-3B",
    "Qwen2.5-7B",
    "Qwen2.5-14B",
    "1.5B, SFT",
    "1.5B, SFT + GRPO",
)
# What our results of the same policies are called (configs/paper/baselines.py).
OURS = (
    "Llama-3.3-70B-Instruct",
    *(f"Qwen2.5-{size}-Instruct" for size in ("1.5B", "3B", "7B", "14B")),
    *("sft", "grpo"),
)
# Task (letters only) -> one (SR, ASAT, ASST) a policy, in the order of POLICIES.
RESULTS: dict[str, tuple[tuple[float, float, float | None], ...]] = {
    "cheesesandwich": (
        # expert and Instruct models of 1.5B, 3B, 7B, 14B
        (0.5, 11.9, 8.8), (0, 15, None), (0, 15, None), (0, 15, None), (0.2, 13.6, 8.0),
        # 1.5B after SFT, after GRPO
        (0, 15, None), (0.3, 12.5, 6.7),
    ),
    "burger": (
        # expert and Instruct models of 1.5B, 3B, 7B, 14B
        (0.4, 12.6, 9.0), (0, 15, None), (0, 15, None), (0.1, 14.9, 14), (0, 15, None),
        # 1.5B after SFT, after GRPO
        (0.2, 13.7, 8.5), (0.7, 10.1, 8.0),
    ),
    "cheeseburger": (
        # expert and Instruct models of 1.5B, 3B, 7B, 14B
        (0.7, 17.4, 15.0), (0, 23, None), (0, 23, None), (0, 23, None), (0.2, 22.4, 20),
        # 1.5B after SFT, after GRPO
        (0.6, 18.4, 15.3), (0.7, 15.8, 12.7),
    ),
    "doublecheeseburger": (
        # expert and Instruct models of 1.5B, 3B, 7B, 14B
        (0.1, 33.5, 20.0), (0, 35, None), (0, 35, None), (0, 35, None), (0, 35, None),
        # 1.5B after SFT, after GRPO
        (0.1, 34.2, 27), (0.3, 30.5, 20),
    ),
}  # fmt: skip

# Trained on (letters only) -> one (SR, ASAT, ASST) a task that it was evaluated on, in the same order.
TRANSFER: dict[str, tuple[tuple[float, float, float | None], ...]] = {
    "cheesesandwich": ((0.3, 12.5, 6.7), (0.3, 13.1, 8.67), (0, 23, None), (0, 35, None)),
    "burger": ((0.4, 13.5, 11.25), (0.7, 10.1, 8.0), (0, 23, None), (0, 35, None)),
    "cheeseburger": ((0.4, 12.2, 8.0), (0.7, 10.8, 9.0), (0.7, 15.8, 12.7), (0, 35, None)),
    "doublecheeseburger": ((0.3, 13.3, 9.3), (0.5, 11.6, 8.2), (0.4, 19.4, 14), (0.3, 30.5, 20)),
}


def published_results(task: str) -> tuple[PublishedTable, ...]:
    """Returns the paper's table of a task, however its name is spelled ("cheese_burger"); none if it did not run it."""
    results = RESULTS.get("".join(filter(str.isalpha, task.lower())))
    if results is None:
        return ()
    rows = (
        PublishedResult(policy, LAYOUTS, *figures, ours=ours)
        for policy, figures, ours in zip(POLICIES, results, OURS, strict=True)
    )
    return (PublishedTable(HEADING, tuple(rows)),)


def published_transfer(trained: str, task: str) -> PublishedResult | None:
    """Returns the paper's result on a task after SFT and GRPO on another; None where it has none."""
    trained, task = ("".join(filter(str.isalpha, name.lower())) for name in (trained, task))
    if trained not in TRANSFER or task not in TRANSFER:
        return None
    return PublishedResult(POLICIES[-1], LAYOUTS, *TRANSFER[trained][list(TRANSFER).index(task)], ours="grpo")
