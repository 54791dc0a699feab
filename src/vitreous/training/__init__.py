"""The training loop. Knows tasks only by their contract and has no word of vision in it."""
