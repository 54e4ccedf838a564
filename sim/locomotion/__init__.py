"""Walking robots: velocity commands, terrain, getting up."""
