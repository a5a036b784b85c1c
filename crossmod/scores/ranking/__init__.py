"""Rank teams by the rule of CrossMoDA, and say how sure the ranking is."""

from crossmod.scores.ranking.rule import ALL, Duel, Ranking, Standing, duels, rankings
from crossmod.scores.ranking.table import ScoreTable, read_table

__all__ = [
    "ALL",
    "Duel",
    "Ranking",
    "ScoreTable",
    "Standing",
    "duels",
    "rankings",
    "read_table",
]
