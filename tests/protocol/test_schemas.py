"""The schemas and the AsyncAPI document: up to date, valid, and in agreement with the vectors."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.spec import SPEC, section, tables, vectors, words
from threadwire.core.schemas import frame_schemas

SCHEMAS = frame_schemas()


def files() -> dict[str, str]:
    made: dict[str, str] = runpy.run_path(str(SPEC / "generate.py"))["files"]()
    return made


def validator(name: str, definition: str | None = None) -> Draft202012Validator:
    schema = SCHEMAS[name]
    if definition is not None:
        schema = {"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]}
    return Draft202012Validator(schema)


def test_committed_files_are_what_generate_makes() -> None:
    for path, text in files().items():
        committed = (SPEC / path).read_bytes().decode()
        assert committed == text, f"{path} is not up to date: run protocol-spec/generate.py"


def test_no_other_schema_is_committed() -> None:
    made = {path for path in files() if path.startswith("schemas/")}
    assert {f"schemas/{path.name}" for path in (SPEC / "schemas").iterdir()} == made


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_valid(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


def references(part: Any) -> set[str]:
    if isinstance(part, dict):
        found = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return found.union(*(references(item) for item in part.values()))
    if isinstance(part, list):
        return set[str]().union(*(references(item) for item in part))
    return set()


@pytest.mark.parametrize("name", SCHEMAS)
def test_definitions_are_all_used_and_all_there(name: str) -> None:
    schema = SCHEMAS[name]
    used = {reference.removeprefix("#/$defs/") for reference in references(schema)}
    assert used <= schema["$defs"].keys()
    assert schema["$defs"].keys() - used <= {"Message"}


def frames_of(case: dict[str, Any]) -> list[Any]:
    value = json.loads(case["json"])
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("side", ["client", "server"])
def test_valid_frames_of_the_vectors_are_valid_by_the_schema(side: str) -> None:
    check = validator(f"{side}-frames")
    for case in vectors("frames"):
        if case["from"] != side or "json" not in case or "close_code" in case or case["section"] == "13.2":
            continue
        if any("error" in frame for frame in case["frames"] if "code" not in frame) or not case["frames"]:
            continue
        if case["section"] == "9.2":
            continue  # what is read leniently, the schema says more strictly
        for frame in frames_of(case):
            check.validate(frame)


def test_wrong_fields_of_the_vectors_are_invalid_by_the_schema() -> None:
    check = validator("client-frames")
    wrong = ("invalid-frame", "unknown-frame", "forbidden-key")
    seen = 0
    for case in vectors("frames"):
        if case["from"] != "client" or "json" not in case or "frames" not in case:
            continue
        try:
            frames = frames_of(case)
        except (ValueError, RecursionError):
            continue
        for frame, expected in zip(frames, case["frames"], strict=False):
            # Python's $ allows a newline at the end, which JSON Schema's does not.
            if expected.get("error") in wrong and "\\n" not in case["json"]:
                seen += 1
                assert not check.is_valid(frame), case
    assert seen > 20


def test_operations_of_the_vectors_agree_with_the_schema() -> None:
    check = validator("operations")
    for case in vectors("operations"):
        for operation in case["ops"]:
            if case.get("error") == "invalid-operation":
                assert not check.is_valid(operation), case
            elif "expected" in case:
                check.validate(operation)


def test_commands_of_the_specification_are_valid_by_the_schema() -> None:
    check = validator("commands")
    for line in section("7.6").splitlines():
        if line.startswith("{"):
            check.validate(json.loads(line))


@pytest.mark.spec("6.2")
@pytest.mark.spec("6.3")
@pytest.mark.parametrize(("number", "side"), [("6.2", "client"), ("6.3", "server")])
def test_examples_of_frames_are_valid_by_the_schema(number: str, side: str) -> None:
    check = validator(f"{side}-frames")
    examples = [json.loads(line) for line in section(number).splitlines() if line.startswith("{")]
    assert len(examples) >= 6
    for example in examples:
        check.validate(example)


@pytest.mark.parametrize(("number", "side"), [("6.2", "client"), ("6.3", "server")])
def test_fields_of_frames_are_those_of_the_specification(number: str, side: str) -> None:
    schema = SCHEMAS[f"{side}-frames"]
    structs = [schema["$defs"][each["$ref"].removeprefix("#/$defs/")] for each in schema["anyOf"]]
    by_type = {struct["properties"]["type"]["enum"][0]: struct for struct in structs}
    (rows, *_) = tables(section(number))
    assert {words(row["type"])[0] for row in rows} == by_type.keys()
    for row in rows:
        struct = by_type[words(row["type"])[0]]
        named = [words(field)[0] for field in row["fields"].split(";")]
        optional = {field.removesuffix("?") for field in named if field.endswith("?")}
        required = {field for field in named if not field.endswith("?")}
        assert optional | required == struct["properties"].keys() - {"type"}
        if side == "client":
            assert required == set(struct["required"]) - {"type"}
        else:
            # The implementation gives defaults to what it always sends.
            assert required >= set(struct["required"]) - {"type"}


@pytest.mark.parametrize("name", ["client-frames", "server-frames"])
def test_a_message_is_a_frame_or_an_array_of_frames(name: str) -> None:
    check = validator(name, "Message")
    frame = {"type": "ping"} if name == "client-frames" else {"type": "pong", "nonce": None}
    valid: list[Any] = [frame, [frame, frame], []]
    invalid: list[Any] = [None, [[frame]], [frame, 1], {}]
    assert all(check.is_valid(message) for message in valid)
    assert not any(check.is_valid(message) for message in invalid)


# AsyncAPI


def asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files()["asyncapi.json"])
    return document


def resolve(document: dict[str, Any], reference: str) -> Any:
    path, _, pointer = reference.partition("#/")
    found: Any = json.loads(files()[path]) if path else document
    for step in pointer.split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


def test_asyncapi_has_what_the_format_requires() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    for server in document["servers"].values():
        assert {"host", "protocol"} <= server.keys()
    for channel in document["channels"].values():
        assert channel["address"] == "/ws"
        for message in channel["messages"].values():
            assert {"name", "payload"} <= resolve(document, message["$ref"]).keys()
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = resolve(document, operation["channel"]["$ref"])
        for message in operation["messages"]:
            # An operation's messages are references into its channel's.
            assert resolve(document, message["$ref"]) in channel["messages"].values()


def test_asyncapi_names_every_frame_once_in_its_direction() -> None:
    document = asyncapi()
    for action, side in (("receive", "client"), ("send", "server")):
        (operation,) = (each for each in document["operations"].values() if each["action"] == action)
        payloads = [
            resolve(document, resolve(document, message["$ref"])["$ref"])["payload"]["$ref"]
            for message in operation["messages"]
        ]
        expected = [
            f"schemas/{side}-frames.json{each['$ref']}" for each in SCHEMAS[f"{side}-frames"]["anyOf"]
        ]
        assert payloads == expected


def test_asyncapi_payloads_lead_to_schemas() -> None:
    document = asyncapi()
    for message in document["components"]["messages"].values():
        schema = resolve(document, message["payload"]["$ref"])
        assert schema["properties"]["type"]["enum"] == [message["name"]]
