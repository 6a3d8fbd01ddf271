"""A trained model in use: loaded with its class names, fed with pictures of any size, evaluated on other data.

`pictures` prepares files as a model expects them, `trained_model` loads and predicts, `evaluating` evaluates.
"""
