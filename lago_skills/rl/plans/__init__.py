"""Which plan to follow, and with which numbers: tried and searched in episodes of the task itself, before and while something is learned."""
