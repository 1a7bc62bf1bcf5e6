"""Where skills last: SQLite, its locks, snapshots, checks and repair."""
