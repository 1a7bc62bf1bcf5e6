from lago_skills.guide.bundle import load_bundle as load_bundle
from lago_skills.guide.loaded import load as load
from lago_skills.rl.guided import guided as guided
from lago_skills.worlds.gym.env import adapt as adapt

__version__: str
