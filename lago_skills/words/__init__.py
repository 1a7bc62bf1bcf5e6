"""What a plan in words means in metres and in time: learned from demonstrations, read at run time."""
