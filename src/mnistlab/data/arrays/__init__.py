"""Images and labels from arrays: `files` reads them, `names` tells which is which, `pixels` and `classes` convert them.

`assemble` makes `Images` of the arrays; the functions in `data.sources` call it.
"""
