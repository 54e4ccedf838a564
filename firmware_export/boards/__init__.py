"""Boards, one file each; each defines BOARD (see robot_rl.firmware_export.board)."""
