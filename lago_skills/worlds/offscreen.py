"""Pictures of MuJoCo scenes without a screen."""

# MuJoCo ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import ctypes.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import RenderingUnavailable

HEIGHT, WIDTH = 240, 320


def prepare_rendering() -> None:
    """Choose off-screen OpenGL where there is some; call it before the first environment of the process is made."""
    if "mujoco" not in sys.modules and "DISPLAY" not in os.environ:
        for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
            if ctypes.util.find_library(library):
                os.environ.setdefault("MUJOCO_GL", backend)


class Camera:
    """Draws a scene from one place.

    Args:
        model: MuJoCo's model of the scene.
        lookat: (3,) point in the middle of the picture, metres.
        distance: of the camera from it, metres.
        azimuth, elevation: where the camera looks from, degrees.

    Raises:
        RenderingUnavailable: this machine has no off-screen OpenGL.
    """

    def __init__(self, model: Any, lookat: Sequence[float], distance: float, azimuth: float, elevation: float) -> None:
        try:
            import mujoco

            self._renderer: Any = mujoco.Renderer(model, HEIGHT, WIDTH)
            self._camera: Any = mujoco.MjvCamera()
        except Exception as error:  # every GL backend fails with an error class of its own
            raise RenderingUnavailable(
                f"off-screen OpenGL does not work here ({type(error).__name__}: {error}); expected EGL or OSMesa; "
                "install libegl1 or libosmesa6 and set MUJOCO_GL"
            ) from error
        self._camera.lookat[:] = lookat
        self._camera.distance, self._camera.azimuth, self._camera.elevation = distance, azimuth, elevation

    def picture(self, data: Any) -> NDArray[np.uint8]:
        """(240, 320, 3) of the scene's present state."""
        self._renderer.update_scene(data, self._camera)
        return np.asarray(self._renderer.render(), dtype=np.uint8)

    def close(self) -> None:
        """Free the memory of pictures."""
        with contextlib.suppress(AttributeError):  # MuJoCo 3.3 trips over a context that was never made
            self._renderer.close()
