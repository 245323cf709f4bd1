"""The second look at every returned row, by a rule that shares no code with the masks."""

import logging

from vector_index.filters import Filter, matches
from vector_index.manifest import IndexSettings
from vector_index.passages import Access, Passage

_log = logging.getLogger(__name__)


def still_qualifies(
    passage: Passage, access: Access, where: Filter | None, settings: IndexSettings
) -> bool:
    """Whether the asker may see the passage and it satisfies the filter, read off the row itself.

    False means that a scan went wrong: the row is withheld and an error is logged.
    """
    if not settings.may_see(passage, access):
        _log.error("row_withheld reason=access index=%s", settings.name)
        return False
    if where is not None and not matches(where, passage.metadata):
        _log.error("row_withheld reason=filter index=%s", settings.name)
        return False
    return True
