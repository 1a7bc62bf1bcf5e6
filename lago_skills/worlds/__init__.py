"""Environment families: what tasks there are, how they are sensed, when they are solved."""
