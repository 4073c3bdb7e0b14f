"""One page that shows how a verdict came about: figures, curves, classes, pictures, recipe, provenance.

`results_folder` reads and checks what a run left, `page` puts the page together, the other modules make its parts.
Nothing here imports paddle: a caller who wants pictures of predictions hands in a function that predicts.
"""
