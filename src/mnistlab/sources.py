"""The types for a user's source: a function, named in `conf/source/NAME.yaml`, that returns `Images`."""

from mnistlab.data.sources import Images, Split

__all__ = ["Images", "Split"]
