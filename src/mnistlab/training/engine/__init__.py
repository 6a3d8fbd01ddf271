"""The fused engine: `fused` runs Keras's `fit` with blocks of steps that `program` compiles, over resident images.

`programs` keeps what is compiled for later jobs and compiles ahead; `copies` makes what is compiled, and checks it.
"""
