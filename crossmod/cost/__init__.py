"""What a plan costs before it is run, why its steps run, and whether they fit this machine."""
