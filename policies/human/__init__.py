"""People in the loop of training: who takes over, what is executed then, what is kept of it."""
