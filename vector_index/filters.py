"""Filters over an index's declared metadata columns.

JSON form: an object whose keys are metadata columns (all must hold) or `and`, `or`, `not`.

    {"kind": "function"}                            equal
    {"kind": ["function", "class"]}                 one of
    {"views": {"gte": 10, "lt": 100}}               both
    {"tags": {"contains_any": ["csv", "json"]}}     the array shares a value with the list
    {"name": {"like": "csv reader"}}                holds both words, in any order and case
    {"or": [{"kind": "module"}, {"not": {"module": "asyncio"}}]}

| column type                 | operators |
|---|---|
| every type                  | is_null |
| all but strings             | eq, ne, in, not_in |
| string, numbers, times      | lt, lte, gt, gte |
| string                      | like |
| strings (an array)          | contains, contains_any, contains_all |

Strings are ordered by code point. A comparison with a missing (null) value is false, `is_null`
apart; `not` inverts plainly, so `{"not": {"kind": "module"}}` includes rows that have no kind.
"""

from vector_index.filter_form import MAX_NODES, parse_filter
from vector_index.filter_tree import And, Compare, Filter, In, IsNull, Not, Operator, Or, matches

__all__ = [
    "MAX_NODES",
    "And",
    "Compare",
    "Filter",
    "In",
    "IsNull",
    "Not",
    "Operator",
    "Or",
    "matches",
    "parse_filter",
]
