"""For worlds written in Python: features that are entries of a flat observation."""

from __future__ import annotations

from collections.abc import Mapping

from lago_skills.core import ActionSpace, Feature
from lago_skills.worlds.gym.config import FeatureConfig
from lago_skills.worlds.gym.features import NamedFeatures
from lago_skills.worlds.gym.spaces import flat_observation


class NamedEntries(NamedFeatures):
    """Features that are entries of the observation, by name: each one's number in the observation, and what it is.

    Raises:
        StudyError: no feature, an entry that the observation does not have, or two names for one entry.
    """

    def __init__(
        self, entries: Mapping[str, tuple[int, Feature]], world: str, observation_size: int, action_space: ActionSpace
    ) -> None:
        features = {
            name: FeatureConfig.model_construct(index=index, unit=f.unit, range=(f.low, f.high), sentence=f.sentence)
            for name, (index, f) in entries.items()
        }
        super().__init__(features, {}, world, flat_observation(observation_size), action_space, section="environment")
