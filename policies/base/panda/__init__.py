"""What the scripted experts for the Panda share: its kinematics in NumPy, and from wishes to commands."""
