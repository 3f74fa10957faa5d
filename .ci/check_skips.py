"""Print every skipped test of a pytest report; fail on another reason than a missing GPU or browser, missing rights
or absent data.

Usage: check_skips.py REPORT.xml. A good reason says "no GPU", "no browser", "no network namespaces" or "no shared
data".
"""

import re
import sys
from xml.etree import ElementTree

GOOD_REASON = re.compile(r"\bno (gpu|browser|network namespaces|shared data)\b", re.IGNORECASE)


def main(report: str) -> int:
    """Exit status: 1 if a test was skipped without a good reason."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = [(case, skip) for case in cases if (skip := case.find("skipped")) is not None]
    bad = 0
    for case, skip in skipped:
        reason = skip.get("message", "")
        # An expected failure is reported as a skip too; it has no good reason.
        good = skip.get("type") == "pytest.skip" and GOOD_REASON.search(reason) is not None
        bad += not good
        name = f"{case.get('classname')}::{case.get('name')}"
        sys.stdout.write(f"skipped{'' if good else ' WITHOUT A GOOD REASON'}: {name}: {reason}\n")
    sys.stdout.write(f"{len(cases)} tests, {len(skipped)} skipped, {bad} of them without a good reason\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
