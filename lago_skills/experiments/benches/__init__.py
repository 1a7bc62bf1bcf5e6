"""Speed, beside the peer that a user would pick."""
