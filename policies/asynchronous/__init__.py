"""Acting and learning in two processes: the control loop never waits for an update."""
