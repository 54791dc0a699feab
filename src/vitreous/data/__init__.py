"""From bytes to batches. Knows nothing of models."""
