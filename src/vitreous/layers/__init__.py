"""Parts that turn tensors into tensors. Knows torch and the shape alphabet, nothing else of the house."""
