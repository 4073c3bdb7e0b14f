"""One page that shows how a verdict came about: figures, curves, classes, pictures, recipe, provenance.

`report_job` goes from files to files, `page` puts the page together, the other modules make its parts. What a run left
is read in `stdc.results`. Only the pictures of frames need paddle, and import it when they are made.
"""
