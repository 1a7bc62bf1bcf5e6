"""Five balls on a table and forty pushes, with goals in words: compatible with CLEVR-Robot as KALM and ImagineBench use it.

Where Gymnasium is installed, importing this registers `lago/BallPush-v0`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("gymnasium") is not None:
    from lago_skills.worlds.ball_push.registration import register_environments

    register_environments()
