"""crossmod in the race, by its public doors: stages, and a `Context` whose progress marks steps.

So does a checkout of an earlier commit, unless it has no such door yet.
"""
