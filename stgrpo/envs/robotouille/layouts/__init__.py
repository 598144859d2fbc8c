"""Which kitchens there are: families of generated layouts, their splits, and what each needs to be solvable."""
