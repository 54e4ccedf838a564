"""Input devices by which a person steers a robot: keyboard, gamepad, SpaceMouse. numpy and the standard library only."""
