"""The client of openpi's policy servers, unchanged, asking `lago serve`: pip install openpi-client (with --no-deps beside NumPy 2).

lago serve checkpoints/demo/bundle
python examples/ask_as_openpi.py 127.0.0.1 8765 push-wall
"""

# The client has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import sys

import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy

host, port, task = sys.argv[1:4]
policy = WebsocketClientPolicy(host, int(port))
said = policy.get_server_metadata()
size = sum(entry["size"] for entry in said["observation"])
print(f"bundle {said['bundle'][:12]}, {said['control_hz']} Hz, observations of {size} numbers")
answer = policy.infer({"observation": np.zeros(size, np.float32), "prompt": task})
print("action", answer["actions"][0], "unfamiliar" if answer["unfamiliar"][0] else "familiar")
