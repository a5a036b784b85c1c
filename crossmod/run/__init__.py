"""From a recipe to a run folder: plan, schedule, execute, publish."""
