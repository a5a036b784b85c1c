"""The commands, one module for each group. Heavy imports happen inside the functions."""
