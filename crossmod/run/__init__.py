"""From a recipe to a run folder: plan, schedule, execute, publish.

The way of `crossmod run`, in the order to read it: `cli`, `commands.run`, `run.api`, `run.plan`
(which steps), `run.steps.base` (what a step is, and its key), `run.schedule` (which is made next),
`run.run` (what the store has already), `run.task`, `run.execute` (making one), `store.store`,
`run.publish` and `report.page`.
"""
