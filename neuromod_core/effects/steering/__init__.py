"""Effects on the residual stream."""
