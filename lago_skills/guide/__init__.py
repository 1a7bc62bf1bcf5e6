"""Guides: state -> query latent -> nearest skills -> action prior. No language model, no text model, no network."""
