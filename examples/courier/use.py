"""A bundle at work in ten lines, without torch: `python use.py`."""

import sys

from courier import Courier

import lago_skills

task = lago_skills.load("courier.zip").task("deliver-through-gap")
env, done, n_steps = Courier(wall=True), False, 0
seen, _ = env.reset(seed=1)
while not done and n_steps < 150:
    action = task.act(seen)
    seen, _, done, _, _ = env.step(action)
    n_steps += 1
print(f"delivered: {done}, after {n_steps} steps; torch was imported: {'torch' in sys.modules}")
print("the last step was at work because of", task.explain(seen[None])[0].why)
