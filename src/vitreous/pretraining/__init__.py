"""Learning without labels, as a user asks for it: the verb, and the verdict on whether it was worth the time."""
