"""What every other module may use: errors, canonical bytes and digests, named random streams, registers."""
