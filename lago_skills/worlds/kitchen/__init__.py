"""Franka Kitchen: an arm moved by joint velocities, seven things to move, and sequences of up to four of them."""
