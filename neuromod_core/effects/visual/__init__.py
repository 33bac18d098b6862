"""Names of effects on image generation, so that published packs parse; none of them acts on a language model."""
