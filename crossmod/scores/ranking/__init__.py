"""Rank teams by the rule of CrossMoDA, and say how sure the ranking is."""

from crossmod.scores.ranking.evaluations import read_evaluations, read_teams
from crossmod.scores.ranking.files import write_tables
from crossmod.scores.ranking.rule import ALL, Duel, Ranking, Standing, duels, rankings
from crossmod.scores.ranking.sheets import duel_sheet, ranking_sheet
from crossmod.scores.ranking.table import ScoreTable, read_table

__all__ = [
    "ALL",
    "Duel",
    "Ranking",
    "ScoreTable",
    "Standing",
    "duel_sheet",
    "duels",
    "ranking_sheet",
    "rankings",
    "read_evaluations",
    "read_table",
    "read_teams",
    "write_tables",
]
