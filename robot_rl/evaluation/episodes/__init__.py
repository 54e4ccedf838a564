"""Recording demonstrations into files of episodes, and drawing and filming what such files hold."""
