import subprocess
import sys

import pytest

HEAVY = ("onnxruntime", "tokenizers", "xllamacpp", "httpx2", "numpy")


@pytest.mark.parametrize("package", ["llm_endpoint", "llm_endpoint.supervisor"])
def test_importing_the_room_loads_no_engine(package: str) -> None:
    program = f"import sys, {package}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "")
