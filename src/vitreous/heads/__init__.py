"""Parts that turn ``Features`` into logits and ship with the model."""
