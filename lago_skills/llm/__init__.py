"""Language-model exchanges: canonical requests and append-only transcripts."""
