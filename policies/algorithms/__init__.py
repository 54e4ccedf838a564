"""Learning algorithms, one file each; every file defines ALGORITHM."""
