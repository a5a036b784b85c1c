"""How far a run is and how long it will take, told in a file that any machine can read."""
