"""Others in the race: packages of a registry, and checkouts that the command line names.

Nothing of theirs is kept here. What they need to run with today's packages is patched when they
start.
"""
