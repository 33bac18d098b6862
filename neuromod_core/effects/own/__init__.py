"""Effects that act with what the user brings: a vector, a sparse autoencoder, an adapter, a function."""
