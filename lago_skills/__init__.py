"""Language-model knowledge for online reinforcement learning, with no language model at run time."""

__version__ = "0.1.0"
