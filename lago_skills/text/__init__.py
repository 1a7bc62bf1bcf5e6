"""Text models, offline: sentence embeddings, and which task a new wording means."""
