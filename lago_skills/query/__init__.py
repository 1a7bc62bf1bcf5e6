"""The learned query: (state, task) -> latent to look skills up with, without a playbook's conditions."""
