"""From a batch to a loss and metrics. What is here is thrown away after training."""
