"""Folders of images by class, as a source: their layout, the files' pixels, kept on disk, in batches."""
