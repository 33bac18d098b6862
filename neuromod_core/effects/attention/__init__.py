"""Effects on queries, heads, scores and weights of attention."""
