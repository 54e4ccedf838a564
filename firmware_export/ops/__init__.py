"""Operators, one file per family; each defines OPERATORS (see robot_rl.firmware_export.operator)."""
