"""The fused engine: `fused` runs Keras's `fit` with blocks of steps that `program` compiles, over resident images."""
