"""Effects on activations inside the network: gains, noise, projections, limits."""
