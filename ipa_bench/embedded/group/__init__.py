"""Two and three people in one scene: who is where, exactly, and what goes wrong with who is who, on purpose."""
