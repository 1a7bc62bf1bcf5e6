"""The decoder: (state, latent) to a distribution over actions. `pretrain` is the only door to d3rlpy."""
