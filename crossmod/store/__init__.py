"""Results of steps by content key, the runs that need them, and the removal of the rest."""
