"""Several models on one split of one's own pictures: a table, the intervals that belong to it, and a verdict."""
