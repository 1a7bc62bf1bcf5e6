"""The stages of a study as plain functions: which artifacts there are, what each is made from, and how."""
