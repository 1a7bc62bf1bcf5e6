"""Any Gymnasium environment as a world, from a study file alone."""
