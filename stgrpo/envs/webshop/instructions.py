"""What a model is told of the shop. Our own words."""

from stgrpo.protocol import Instructions

INSTRUCTIONS = Instructions(
    task="You are in a web shop and buy what the goal describes, in as few actions as possible.",
    observation="""\
It is the page you are on: the products that a search has found with their prices, or one item with its options, and \
what you have chosen of them. The valid actions are the searches you can make and what you can click.""",
    rules="""\
Rules:
1. Search first. A search finds up to 50 products, ten a page; "next >" and "< prev" turn the pages.
2. Click a product's code to see the item. Its description, features and reviews are pages of their own.
3. Click the options that the goal asks for, one value each. Going back to the results forgets them.
4. The price must be below the limit that the goal states.
5. "buy now" ends the task. The score is the share of what the goal asks for that is met, and less for another kind of \
product.""",
)
