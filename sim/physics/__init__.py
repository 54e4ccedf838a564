"""Contact simulators, one file each: MuJoCo on the CPU, MuJoCo Warp on the GPU, PyBullet as a cross-check."""
