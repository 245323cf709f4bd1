"""Answers one table by a scripted model until it is done or killed: a script, not a test.

python batch_child.py <folder of the table> <folder for the results>
"""

import asyncio
import sys
from pathlib import Path

from llm_endpoint.generation.scripted import ScriptedGenerator
from pipelines.batch import (
    Asker,
    BatchPlan,
    Pace,
    PromptTemplate,
    ResultTable,
    answer_rows,
    open_rows,
)

PROMPT = "Say: {word}"


def echo(request):
    return request.messages[-1].content.removeprefix("Say: ")


def plan_of(rows):
    return BatchPlan(
        table=rows.location, table_identity=rows.pinned.identity,
        table_version=rows.pinned.version, key=rows.key, prompt=PROMPT, system=None,
        model="scripted", max_tokens=16, temperature=0.0,
    )  # fmt: skip


def begin(table, out):
    """Rows and plan, as `headrace batch` finds or makes them."""
    results = ResultTable(Path(out))
    found = results.plan()
    version = None if found is None else found.table_version
    rows = open_rows(str(table), key="id", columns=PromptTemplate(PROMPT).columns, version=version)
    plan = found or plan_of(rows)
    if found is None:
        results.create(plan, rows.key_type)
    return rows, results, plan


def answer(table, out, engine, pace=Pace(4), **options):
    rows, results, plan = begin(table, out)
    with results.alone():
        asker = Asker(engine, plan, timeout_s=5, patience_s=0.5)
        return asyncio.run(
            answer_rows(rows, results, asker, model=plan.model, pace=pace, **options)
        )


if __name__ == "__main__":
    answer(*sys.argv[1:], ScriptedGenerator(echo, delay_s=0.004), Pace(4, 8, 0.05))
