"""The compiled engine: an epoch as one program over resident images."""
