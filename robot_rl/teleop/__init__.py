"""Input devices by which a person steers a robot: keyboard, gamepad, SpaceMouse. Standard library and numpy only."""
