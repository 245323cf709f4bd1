"""One prompt for each row of a table, and exactly one answer beside each key, whoever is killed."""

from pipelines.batch.asking import Asker
from pipelines.batch.plan import BatchPlan
from pipelines.batch.prompts import PromptTemplate
from pipelines.batch.results import ResultTable
from pipelines.batch.rows import PinnedRows, open_rows
from pipelines.batch.run import BatchReport, Pace, answer_rows

__all__ = [
    "Asker",
    "BatchPlan",
    "BatchReport",
    "Pace",
    "PinnedRows",
    "PromptTemplate",
    "ResultTable",
    "answer_rows",
    "open_rows",
]
