"""`GET /schema`: what is published is what is accepted."""

from __future__ import annotations

import jsonschema
import pytest

import threadwire
from tests.support.http import http_client
from threadwire.core.errors import CommandError

pytestmark = pytest.mark.anyio


class SetTitle(threadwire.Command, frozen=True, tag="set-title"):
    title: str


class Refund(threadwire.Command, frozen=True, tag="refund"):
    amount: int


def agent(name: str) -> threadwire.Agent:
    @threadwire.agent(name=name)
    async def made(run: threadwire.Run) -> None: ...

    return made


@pytest.mark.spec("14.7")
async def test_each_agent_has_the_schema_of_what_it_accepts() -> None:
    first, second = agent("first"), agent("second")

    @first.on(SetTitle)
    async def set_title(run: threadwire.Run, command: SetTitle) -> None: ...

    async with http_client(first, second) as (http, _):
        schemas = (await http.get("/schema")).json()
    assert schemas.keys() == {"commands", "frames", "operations"}
    assert schemas["commands"].keys() == {"first", "second"}
    for body in (
        {"type": "set-title", "title": "x"},
        {"type": "set-title", "title": 1},
        {"type": "set-title"},
        {"type": "nothing"},
        {"type": "add-message", "message": {"role": "user", "parts": [{"type": "text", "text": "hi"}]}},
        {"type": "add-message", "message": {"parts": [{"type": "sculpture"}]}},
        "text",
    ):
        for served in (first, second):
            validator = jsonschema.Draft202012Validator(schemas["commands"][served.name])
            try:
                served.registry.read(body)
            except CommandError:
                assert not validator.is_valid(body)
            else:
                assert validator.is_valid(body)


async def test_frames_and_operations_have_valid_schemas() -> None:
    async with http_client(agent("a")) as (http, _):
        schemas = (await http.get("/schema")).json()
    assert schemas["frames"].keys() == {"client", "server"}
    for schema in (*schemas["frames"].values(), *schemas["commands"].values(), schemas["operations"]):
        jsonschema.Draft202012Validator.check_schema(schema)
    client = jsonschema.Draft202012Validator(schemas["frames"]["client"])
    assert client.is_valid({"type": "open", "thread": "t"})
    assert not client.is_valid({"type": "open", "thread": "a b"})


async def test_schema_that_a_client_has_is_not_sent_again() -> None:
    async with http_client(agent("a")) as (http, _):
        first = await http.get("/schema")
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await http.get("/schema", headers={"if-none-match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        for unknown in ('"x"', "", tag.strip('"')):
            again = await http.get("/schema", headers={"if-none-match": unknown})
            assert (again.status_code, again.content) == (200, first.content)


async def test_command_type_added_while_serving_is_published() -> None:
    served = agent("a")
    async with http_client(served) as (http, _):
        before = await http.get("/schema")

        @served.on(Refund)
        async def refund(run: threadwire.Run, command: Refund) -> None: ...

        after = await http.get("/schema", headers={"if-none-match": before.headers["etag"]})
        assert after.status_code == 200
        assert "Refund" in after.text
        assert "Refund" not in before.text
