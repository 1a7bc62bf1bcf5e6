"""What a sceptic would use instead of the library."""
