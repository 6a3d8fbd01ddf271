"""A multirun: planned, not done twice, under one parent, ended with a verdict."""
