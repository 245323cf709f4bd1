"""Writes the models of test_pyfunc, in the environment that has MLflow: a script, not a test.

python pyfunc_models.py <folder>
"""

import sys
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema


class Adder(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        made = model_input["a"] + model_input["b"]
        return pd.DataFrame({"sum": made * (params or {}).get("factor", 1.0)})


class Moody(mlflow.pyfunc.PythonModel):
    """No signature: it sees what was sent."""

    def predict(self, context, model_input, params=None):
        import os
        import time

        told = str(model_input)
        if "raise" in told:
            raise ValueError("the model's own mistake")
        if "die" in told:
            os._exit(7)
        if "wait" in told:
            time.sleep(60)
        return {"kind": type(model_input).__name__, "key": os.environ["MOODY_KEY"]}


CHAIN = """
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Chain(PythonModel):
    def load_context(self, context):
        prompt = ChatPromptTemplate([("system", "Be brief."), ("user", "{question}")])
        # Where and by which key: OPENAI_BASE_URL and OPENAI_API_KEY.
        model = ChatOpenAI(model="smollm2", max_tokens=8, temperature=0)
        self.chain = prompt | model | StrOutputParser()

    def predict(self, context, model_input, params=None):
        question = model_input["messages"][-1]["content"]
        return {"answer": self.chain.invoke({"question": question})}


set_model(Chain())
"""


def main(folder):
    columns = Schema([ColSpec("double", "a"), ColSpec("double", "b")])
    factor = ParamSchema([ParamSpec("factor", "double", 1.0)])
    signature = ModelSignature(columns, Schema([ColSpec("double", "sum")]), factor)
    bare = {"pip_requirements": []}
    mlflow.pyfunc.save_model(folder / "adder", python_model=Adder(), signature=signature, **bare)
    mlflow.pyfunc.save_model(folder / "moody", python_model=Moody(), **bare)
    (folder / "chain.py").write_text(CHAIN)
    mlflow.pyfunc.save_model(folder / "chain", python_model=str(folder / "chain.py"), **bare)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
