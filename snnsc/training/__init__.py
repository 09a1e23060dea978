"""Training: losses, schedules, optimizer, the loop, metrics, the run folder."""
