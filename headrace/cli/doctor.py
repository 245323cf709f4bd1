"""`headrace doctor`."""

import dataclasses
import json as json_module
import sys

from headrace.doctor import examine
from headrace.settings import load_settings


def run_doctor(as_json: bool) -> None:
    """Prints a line a check, and exits 1 when one found something to mend."""
    findings = []
    for finding in examine(load_settings()):
        findings.append(finding)
        if not as_json:
            print(f"{'ok  ' if finding.is_fine else 'FAIL'}  {finding.check}: {finding.detail}")
    if as_json:
        print(json_module.dumps([dataclasses.asdict(finding) for finding in findings]))
    if not all(finding.is_fine for finding in findings):
        sys.exit(1)
