"""Side-by-side measurements of mnistlab, the guide's notebook, JAX and PyTorch: `python -m benchmarks`.

Every contender runs in a separate process. mnistlab imports nothing from here.
"""
