"""Shared parts of off-policy learners that step many environments: replay, critics, value heads, the loop itself."""
