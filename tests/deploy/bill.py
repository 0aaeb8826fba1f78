"""Checks a bill of materials against CycloneDX's schema, the binary, the license notices, and the rules for licenses.
Independent of how the bill was made.
  bill.py FOLDER      (an unpacked tarball)"""

import hashlib
import json
import pathlib
import re
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing

FOLDER = pathlib.Path(sys.argv[1])
BINARY = (FOLDER / "bin/esker").read_bytes()
NOTICES = (FOLDER / "share/doc/esker/THIRD-PARTY").read_text()
TEXT = (FOLDER / "share/doc/esker/esker.cdx.json").read_text()
BILL = json.loads(TEXT)


def require(holds, *what):
    if not holds:
        sys.exit(f"deploy: bill: {' '.join(map(str, what))}")


def components(scope):
    return [entry for entry in BILL["components"] if entry["scope"] == scope]


def crates(entries):
    return {(entry["name"], entry["version"]) for entry in entries if entry["purl"].startswith("pkg:cargo/")}


def check_schema():
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(TEXT)
    require(fault is None, "invalid:", fault)


def check_binary():
    """The bill is for this binary, and lists every crate whose name appears in it."""
    subject = BILL["metadata"]["component"]
    require(subject["hashes"][0]["content"] == hashlib.sha256(BINARY).hexdigest(), "the bill is for another binary")
    seen = {tuple(name.decode().rsplit("-", 1)) for name in re.findall(rb"/crates/([a-z0-9_-]+-[0-9][0-9.]+)/", BINARY)}
    require(len(seen) > 20, "the binary names no crates:", seen)
    require(seen <= crates(components("required")), "only in the binary:", seen - crates(components("required")))


def check_sqlite():
    sqlite = next(entry for entry in components("required") if entry["name"] == "sqlite")
    source = next(fact["value"] for fact in sqlite["properties"] if fact["name"] == "sqlite:source_id")
    for fact in sqlite["version"], source:
        require(fact.encode() + b"\0" in BINARY, "the binary has another SQLite than", fact)


def check_compilers():
    linked = {entry["name"]: entry.get("version") for entry in components("required")}
    rust = re.search(rb"rustc version ([0-9.]+)", BINARY)
    require(rust is None or linked["rust-std"] == rust.group(1).decode(), "another Rust:", rust)
    require("musl" in linked or linked.get("glibc"), "no C library")


def check_notices():
    """The notices contain the licenses of all linked crates, and no others."""
    named = {tuple(name) for name in re.findall(r"^={80}\n(\S+) (\S+): ", NOTICES, re.M)}
    require(named == crates(components("required")), "notices and bill differ:", named ^ crates(components("required")))


def check_licenses():
    """The allowed licenses satisfy each crate's license expression."""
    rules = pathlib.Path(".cargo/deny.toml").read_text()
    allowed = set(re.findall(r'"([^"]+)"', re.search(r"^allow = \[(.*?)^\]", rules, re.M | re.S).group(1)))
    licensing = get_spdx_licensing()
    for entry in BILL["components"]:
        if entry["purl"].startswith("pkg:cargo/"):
            terms = licensing.parse(entry["licenses"][0]["expression"], validate=True)
            truths = {name: licensing.TRUE if str(name) in allowed else licensing.FALSE for name in terms.symbols}
            require(terms.subs(truths, simplify=True) == licensing.TRUE, "not allowed:", entry)


def check_graph():
    """Every component is a dependency of another one."""
    references = {entry["bom-ref"] for entry in BILL["components"]} | {BILL["metadata"]["component"]["bom-ref"]}
    edges = {entry["ref"]: entry["dependsOn"] for entry in BILL["dependencies"]}
    require(set(edges) == references, "no edges of:", set(edges) ^ references)
    reached, ends = set(), [BILL["metadata"]["component"]["bom-ref"]]
    while ends:
        reference = ends.pop()
        if reference not in reached:
            reached.add(reference)
            ends += edges[reference]
    require(reached == references, "not needed by anything:", references - reached)


for check in check_schema, check_binary, check_sqlite, check_compilers, check_notices, check_licenses, check_graph:
    check()
print(f"the bill is correct: {len(components('required'))} linked, {len(components('excluded'))} for building")
