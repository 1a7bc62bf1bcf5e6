"""Ten Meta-World tasks with other mechanics, which nobody can know from the benchmark."""
