"""Online reinforcement learning: guided and plain, the same code with guidance switched off."""
