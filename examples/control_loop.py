"""A control loop that acts by a bundle, in process: no torch, no network.

    python examples/control_loop.py checkpoints/demo/bundle push-wall

Put your robot where the environment is: something that gives observations and takes actions at the bundle's control rate.
"""

from __future__ import annotations

import sys
import time

import lago_skills

bundle, task = sys.argv[1:3]
guide = lago_skills.load(bundle)
period_s = 1.0 / (guide.description["control_hz"] or 20.0)
known = guide.task(task)
assert guide.world is not None
env = guide.world.make(known.name)

observation, _ = env.reset(seed=0)
slept = 0.0
for step in range(guide.world.tasks[known.name].horizon_steps):
    began = time.perf_counter()
    answer = known.answer(observation[None])
    if answer.unfamiliar[0]:
        print("a state that the bundle knows nothing of:", known.explain(observation[None])[0].why)
    observation, reward, terminated, truncated, _ = env.step(answer.actions[0])
    solved = float(reward) > 0.0
    if solved or terminated or truncated:
        print(f"{known.name}: {'solved' if solved else 'not solved'} after {step + 1} steps")
        break
    time.sleep(max(0.0, period_s - (time.perf_counter() - began)))
env.close()
