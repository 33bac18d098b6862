"""Effects on queries and heads."""
