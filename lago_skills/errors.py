"""One error class per thing the reader can fix.

Every message has three parts: what was found, what was expected, what to do. The command line prints a
`LagoError` as that one sentence and exits with code 2; any other exception keeps its traceback.
"""


class LagoError(Exception):
    """Something the reader can fix; the message says how."""


class StudyError(LagoError):
    """A study file has a misspelt key, an impossible value or an unknown task."""


class OtherWorld(StudyError):
    """Something was made for another environment than the one at hand."""


class ShapeError(LagoError):
    """An array has the wrong shape, or holds NaN or infinite values."""


class UnfamiliarState(LagoError):
    """An observation unlike all that a bundle was made from, where such states are to be refused."""


class DataError(LagoError):
    """Offline data that cannot be read, or is not what the study needs."""


class TranscriptMissing(LagoError):
    """A language-model answer that the study needs has not been recorded."""


class PlanError(LagoError):
    """A language-model answer, or an edited playbook, is not a valid playbook."""


class ArtifactCorrupt(LagoError):
    """A file of an artifact is missing or does not match the hash in its manifest."""


class ArtifactMissing(LagoError):
    """A stage needs an artifact that has not been made yet."""


class FormatTooNew(LagoError):
    """An artifact was written by a newer version of this package."""


class LibraryConflict(LagoError):
    """A change to a skill library that its present content does not allow."""


class SkillChanged(LibraryConflict):
    """A change to a skill that somebody else has changed since it was looked at."""


class LibraryDamaged(ArtifactCorrupt):
    """A skill library holds bytes that are not what was written; `lago skills repair` rebuilds what can be rebuilt."""


class LibraryBusy(LagoError):
    """Another process is writing to the skill library, for longer than one wanted to wait."""


class LibraryReadOnly(LagoError):
    """A change to a skill library that was opened, or lies, where nothing can be written."""


class DiskFull(LagoError):
    """The disk has no room for an artifact; what was finished is still valid."""


class StoreError(LagoError):
    """The store that machines share cannot be reached, read or written; what is finished is kept in the project folder."""


class TrainingStopped(LagoError):
    """Training met a reward that is not finite and stopped at that step."""


class EnvironmentTaken(LagoError):
    """Not one more environment can be opened beside those that are."""


class ServerError(LagoError):
    """The local Prefect server did not start, or the configured one does not answer."""


class ServiceError(LagoError):
    """A guidance service cannot be started, does not answer, or refuses."""


class StudyBusy(LagoError):
    """Another command is working on the same study."""


class RenderingUnavailable(LagoError):
    """This machine has no off-screen OpenGL."""


class EndpointError(LagoError):
    """A language-model endpoint did not answer, or refused."""


class BudgetSpent(LagoError):
    """One more request might cost more than the study allows."""


class ApprovalNeeded(LagoError):
    """Something would be used that nobody has approved yet; `lago` exits with 3."""


class ApprovalOutdated(LagoError):
    """Something was approved that has changed since it was looked at."""
