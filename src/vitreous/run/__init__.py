"""A run: everything that decides what comes out, and the way from it to a run folder and back."""
