"""Numbers for a prediction: against its reference, over a cohort, between trials and teams."""
