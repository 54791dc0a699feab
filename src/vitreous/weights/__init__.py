"""Weights that others trained: where they come from, what they may be used for, what their tensors are called."""
