"""What Python code calls, in a notebook or a script: run a recipe, open a run folder.

`crossmod.run`, `crossmod.open_run` and `crossmod.load_model` lead here.
"""
