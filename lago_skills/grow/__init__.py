"""Growth: a built library takes in new tasks and new episodes, shows what that changed, and can go back."""
