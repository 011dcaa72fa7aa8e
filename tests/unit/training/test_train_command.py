"""The training command sets up TensorFlow as it was for the shipped weights."""

import os
import subprocess
import sys

PROGRAM = """
import os, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            print("tensorflow imported with", os.environ.get("TF_ENABLE_ONEDNN_OPTS"))

sys.meta_path.insert(0, Watch())
sys.argv = ["train", "--help"]
runpy.run_module("processor.training.train", run_name="__main__")
"""


def test_the_training_command_imports_tensorflow_without_onednn() -> None:
    """With oneDNN's kernels the same command ends at other weights than those that are shipped."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}

    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment
    )

    assert "tensorflow imported with 0" in answer.stdout.splitlines()
