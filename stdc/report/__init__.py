"""One page that shows how a verdict came about: figures, curves, classes, pictures, recipe, provenance.

`inputs` reads a results folder, `page` puts the page together, the other modules make its parts. Nothing here imports
paddle: who wants pictures of predictions hands in a function that predicts.
"""
