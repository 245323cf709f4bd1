"""Where the rows that an index could not take are kept."""

from headrace.indexes import index_section
from headrace.settings import Settings
from pipelines.quarantine import Quarantine


def quarantine_of(settings: Settings, name: str) -> Quarantine:
    """The quarantine of an index. Raises InvalidSettings for an unknown one."""
    index_section(settings, name)
    return Quarantine(settings.state_dir / "quarantine" / name)
