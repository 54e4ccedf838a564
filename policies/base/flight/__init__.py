"""What the classical flight controllers share: vehicle numbers, rotations, mixer, gains and tuning."""
