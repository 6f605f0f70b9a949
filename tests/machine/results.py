# SPDX-License-Identifier: MIT
"""What tests printed, judged as `meson test` does and written as it does: script/count-tests reads it."""
import json
import re
import xml.etree.ElementTree as xml

SKIP, ERROR = 77, 99  # exit statuses
NOT_IN_XML = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f]")
ROW = re.compile(r"(not ok|ok)\b\s*(\d+)?\s*(?:- )?\s*([^#]*)(?:#\s*(\w+)\s*(.*))?")


class Judged:
    """@result: as in Meson's log. @rows: (name, "ok", "not ok" or "skip"). @why: of what was skipped or went wrong."""

    def __init__(self, result, rows, why=""):
        self.result, self.rows, self.why = result, rows, why


def read_tap(text):
    """(rows, what was wrong with the whole, the reason if all is skipped)"""
    rows, planned, bad, skipped = [], None, None, None
    for line in text.splitlines():
        plan = re.match(r"1\.\.(\d+)\s*(?:#\s*SKIP\S*\s*(.*))?", line, re.IGNORECASE)
        row = ROW.match(line)
        if line.startswith("Bail out!"):
            bad = line
        elif plan:
            planned = int(plan[1])
            skipped = (plan[2] or "no rows") if planned == 0 else None
        elif row:
            rows.append((row[3].strip() or f"row {len(rows) + 1}", state_of(row)))
    if not bad and planned is None:
        bad = "no plan"
    if not bad and planned != len(rows):
        bad = f"{planned} rows planned, {len(rows)} seen"
    return rows, bad, skipped


def state_of(row):
    directive = (row[4] or "").lower()
    if directive.startswith("skip"):
        return "skip"
    if directive.startswith("todo"):
        return "ok" if row[1] == "not ok" else "not ok"
    return row[1]


def judge(test, result):
    if result.how == "machine":
        return Judged("ERROR", [], "it ended the machine")
    if result.how == "timeout":
        return Judged("TIMEOUT", [], f"not done within {result.value} s")
    if result.how == "signal":
        judged = Judged("FAIL", [], f"killed by signal {result.value}")
    else:
        judged = judge_tap(result) if test["protocol"] == "tap" else judge_status(result)
    if test["should_fail"] and judged.result in ("OK", "FAIL"):
        return Judged("EXPECTEDFAIL" if judged.result == "FAIL" else "UNEXPECTEDPASS", [], judged.why)
    return judged


def judge_status(result):
    if result.value == SKIP:
        return Judged("SKIP", [], last_line(result.output))
    if result.value == 0:
        return Judged("OK", [])
    return Judged("ERROR" if result.value == ERROR else "FAIL", [], f"exit status {result.value}")


def judge_tap(result):
    rows, bad, skipped = read_tap(result.output)
    if result.value == SKIP and not rows:
        return Judged("SKIP", [], last_line(result.output))
    if skipped and not bad and result.value == 0:
        return Judged("SKIP", [], skipped)
    if bad:
        return Judged("ERROR", rows, f"{bad}, exit status {result.value}")
    if any(state == "not ok" for _, state in rows):
        return Judged("FAIL", rows)
    return Judged("ERROR", rows, f"exit status {result.value}") if result.value else Judged("OK", rows)


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it does not say why"


def write(folder, told):
    """@told: (test, Result, Judged) of each that ran. testlog.json and testlog.junit.xml, as Meson writes them."""
    root = xml.Element("testsuites", tests=str(len(told)))
    plain = xml.SubElement(root, "testsuite", name="shunt")
    with open(folder / "testlog.json", "w", encoding="utf-8") as log:
        for test, result, judged in told:
            output = NOT_IN_XML.sub("?", result.output)
            code = -result.value if result.how == "signal" else result.value if result.how == "exit" else 0
            print(json.dumps({"name": test["title"], "stdout": output, "result": judged.result, "returncode": code,
                              "duration": result.seconds}), file=log)
            if judged.rows:
                suite = xml.SubElement(root, "testsuite", name="shunt." + test["title"])
                for name, state in judged.rows:
                    add_case(suite, name, {"not ok": "failure", "skip": "skipped"}.get(state))
                xml.SubElement(suite, "system-out").text = output
            else:
                kind = {"OK": None, "EXPECTEDFAIL": None, "SKIP": "skipped"}.get(judged.result, "failure")
                add_case(plain, test["title"], kind, judged.why)
                xml.SubElement(plain[-1], "system-out").text = output
    xml.ElementTree(root).write(folder / "testlog.junit.xml", encoding="utf-8", xml_declaration=True)


def add_case(suite, name, kind, why=""):
    case = xml.SubElement(suite, "testcase", name=NOT_IN_XML.sub("?", name))
    if kind:
        xml.SubElement(case, kind, message=NOT_IN_XML.sub("?", why))
