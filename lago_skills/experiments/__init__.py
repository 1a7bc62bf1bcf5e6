"""What a paper's tables need: cells, result files, statistics."""
