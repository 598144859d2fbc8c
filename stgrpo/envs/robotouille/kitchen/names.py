"""The names that things have in kitchens: a kind and a number."""

MOST_OF_A_KIND = {
    **dict.fromkeys(("table", "stove", "board", "fryer", "sink"), 14),
    **dict.fromkeys(("topbun", "bottombun", "bread", "lettuce", "onion", "tomato", "patty", "chicken"), 9),
    **dict.fromkeys(("cheese", "potato"), 9),
    **dict.fromkeys(("pot", "bowl", "water"), 4),
    "robot": 1,
}
OBJECT_NAMES = tuple(f"{kind}{i}" for kind, most in MOST_OF_A_KIND.items() for i in range(1, most + 1))
