"""Balls, sides and layouts that tests of ball push speak of."""

from __future__ import annotations

import numpy as np

from lago_skills.worlds.ball_push.balls import action_of
from lago_skills.worlds.ball_push.goals import Goal, Part

RED, BLUE, GREEN, PURPLE, CYAN = range(5)
BEHIND, LEFT, FRONT, RIGHT = range(4)
SPREAD = np.array([[0.0, 0.2], [-0.45, 0.55], [0.45, 0.55], [-0.45, -0.15], [0.45, -0.15]])
"""Red in the open, the others in the corners."""
ROW = np.array([[-0.46, 0.14], [-0.23, 0.26], [0.0, 0.14], [0.23, 0.26], [0.46, 0.14]])
RING = np.array([[0.0, 0.5], [-0.3, 0.2], [0.0, 0.2], [0.3, 0.2], [0.0, -0.1]])
"""Green in the middle."""
RED_LEFT_BLUE = Goal("pair", (Part(RED, LEFT, BLUE),))
IDLE = action_of(RED, 1)
