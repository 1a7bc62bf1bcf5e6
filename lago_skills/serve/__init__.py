"""The local service: a bundle's guidance over websocket and HTTP, for control loops that are another process, machine or language."""
