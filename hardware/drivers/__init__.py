"""One file, one robot: each defines `DRIVER`, a class that satisfies `robot_rl.protocols.Driver`."""
