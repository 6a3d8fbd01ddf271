"""What a training came to: metrics and the reading of curves from plain arrays, and figures."""
