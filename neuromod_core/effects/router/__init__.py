"""Effects on the routers of a mixture of experts."""
