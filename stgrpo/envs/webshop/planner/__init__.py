"""What the expert knows of a goal: which purchases are best, and how far they are."""
