"""A trained model as a folder of its own: written from a run, used on any scan.

run folder -> package -> model folder -> predict -> label maps, confidence
"""
