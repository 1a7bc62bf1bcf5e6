"""Who advises a learner, what the advice is worth, and who leads an episode."""
