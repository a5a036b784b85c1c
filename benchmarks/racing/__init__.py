"""Races works against each other: processes that take turns, and what their times say."""
