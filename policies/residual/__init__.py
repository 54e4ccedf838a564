"""Refining a policy that stays as it is: a small learnt correction on top of its actions."""
