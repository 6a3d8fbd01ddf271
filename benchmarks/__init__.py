"""Side-by-side measurements of mnistlab, the notebook and the floors it is judged by: `python -m benchmarks`.

Every contender is a process of its own; nothing here is imported by mnistlab.
"""
