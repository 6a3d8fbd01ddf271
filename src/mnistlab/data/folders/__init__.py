"""`source=directory`, images in one folder per class: layout, decoding, decoding processes, cache and batches."""
