"""`GET /about`: a page that tells what is served and how to connect; and the icon that browsers ask for.

It is one document without scripts, and its policy lets the browser load nothing else. Where the
playground isn't built it stands at `/` too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.commands import BUILT_IN, Command
from ..engine.agent import Agent
from ..engine.threads import Threads
from ..version import __version__
from .playground import Playground

_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32">'
    '<rect width="32" height="32" rx="8" fill="#4f46e5"/>'
    '<g fill="none" stroke="#fff" stroke-width="2.5" stroke-linecap="round">'
    '<path d="M7 11h6c5 0 4 10 9 10h3"/>'
    '<path d="M7 21h6c2 0 3-1.6 3.6-3.4M18.8 13.2C19.6 11.9 20.6 11 22 11h3"/>'
    "</g></svg>"
)

_STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --line: #e2e5ea; --text: #1c2430; --faint: #5d6878;
  --accent: #4f46e5; --code: #f0f2f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f131a; --card: #171d27; --line: #2a3342; --text: #e4e9f1; --faint: #97a3b6;
    --accent: #a5a8ff; --code: #0f151e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 58rem; margin: 0 auto; padding: clamp(1.25rem, 5vw, 3.5rem) clamp(1rem, 4vw, 2rem); }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .75rem 1rem; margin-bottom: 2rem; }
header svg { width: 2.75rem; height: 2.75rem; flex: none; }
header div { flex: 1 1 12rem; }
h1 { font-size: 1.6rem; line-height: 1.2; letter-spacing: -.02em; margin: 0; }
header p { margin: .1rem 0 0; color: var(--faint); font-size: .9rem; }
h2 { font-size: 1.05rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .5rem 0; }
a { color: var(--accent); }
.facts { margin-left: auto; display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; list-style: none; }
.facts li, .tag {
  border: 1px solid var(--line); border-radius: 99px; padding: .1rem .7rem; background: var(--card);
  font-size: .82rem; color: var(--faint); overflow-wrap: anywhere;
}
.tag { color: var(--accent); background: none; }
.agents {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .75rem;
}
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem 1.1rem;
  min-width: 0;
}
.card p { color: var(--faint); font-size: .88rem; margin: .35rem 0 0; }
.card ul { list-style: none; margin: .5rem 0 0; padding: 0; font-size: .88rem; }
.card li { overflow-wrap: anywhere; margin-top: .2rem; }
.title {
  display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: .25rem .5rem;
}
code, pre { font: .86rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre {
  background: var(--code); border: 1px solid var(--line); border-radius: .75rem; margin: .5rem 0 1rem;
  padding: .85rem 1rem; overflow-x: auto;
}
.name { color: var(--accent); }
.faint { color: var(--faint); }
.card + p { font-size: .9rem; margin-top: .9rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td {
  border-top: 1px solid var(--line); padding: .45rem .75rem .45rem 0; vertical-align: top;
  overflow-wrap: anywhere;
}
tr:first-child td { border-top: 0; }
td:last-child { color: var(--faint); padding-right: 0; }
@media (max-width: 36rem) {
  .facts { margin-left: 0; }
  td { display: block; padding-right: 0; }
  td:last-child { border-top: 0; padding-top: 0; }
}
"""

_POLICY: Final = (
    "default-src 'none'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)

_ROUTES: Final = (
    ("GET /ws", "the WebSocket: many threads on one connection"),
    ("GET /threads", "lists threads; POST makes one"),
    ("GET /threads/{id}", "one thread's record; PATCH changes it, DELETE removes the thread"),
    ("POST /threads/{id}/archive", "hides it from the list; /unarchive shows it again"),
    ("GET /threads/{id}/state", "its whole state, with the position to go on from"),
    ("GET /threads/{id}/history", "its log, update by update"),
    ("POST /threads/{id}/title", "has its agent title it"),
    ("POST /assistant", "stock AssistantTransport clients: commands in, the state out as it changes"),
    ("POST /resume, POST /initial-state", "brings them back to a run that goes on; /cancel stops it"),
    ("POST /chat", "stock clients that keep the conversation themselves: messages in, one message out"),
    ("GET /schema", "JSON Schemas of all commands and frames"),
    ("GET /openapi.json", "all HTTP routes as OpenAPI"),
    ("GET /healthz, GET /readyz", "for probes"),
)

_FRAMES: Final = "\n".join(
    (
        '{"type": "open", "thread": "thread-1"}',
        '{"type": "command", "thread": "thread-1", "id": "1",'
        ' "command": {"type": "add-message", "message": {"parts": [{"type": "text", "text": "hello"}]}}}',
    )
)


def routes(threads: Threads, playground: Playground | None = None) -> list[BaseRoute]:
    built = playground or Playground()

    async def root(request: Request) -> Response:
        return await (built.response(request, "index.html") if built.is_built else page(request))

    async def page(request: Request) -> Response:
        headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
        return Response(
            _page(threads, request, built=built.is_built), headers=headers, media_type="text/html"
        )

    async def icon(request: Request) -> Response:
        return Response(_ICON, headers={"Cache-Control": "public, max-age=86400"}, media_type="image/svg+xml")

    return [Route("/", root), Route("/about", page), Route("/favicon.ico", icon), *built.routes()]


def _page(threads: Threads, request: Request, *, built: bool) -> str:
    root = str(request.scope.get("root_path", ""))
    base = f"{request.scope.get('scheme', 'http')}://{_host(request)}{root}"
    socket = f"ws{base.removeprefix('http')}/ws"
    store = type(threads.store).__name__.removesuffix("Store").lower()
    agents = "".join(
        _agent(name, agent, default=name == threads.default_agent) for name, agent in threads.agents.items()
    )
    rows = "".join(
        f"<tr><td><code>{escape(route)}</code></td><td>{escape(what)}</td></tr>" for route, what in _ROUTES
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Threadwire</title>
<link rel="icon" type="image/svg+xml" href="{escape(root)}/favicon.ico">
<style>{_STYLE}</style>
</head>
<body>
<main>
<header>
{_ICON}
<div><h1>Threadwire</h1><p>Threads of agents as live JSON documents.</p></div>
<ul class="facts"><li>version {escape(__version__)}</li><li>store: {escape(store)}</li></ul>
</header>

<h2>Agents</h2>
<div class="agents">{agents}</div>

<h2>Connect</h2>
<p>Open a WebSocket at <code class="name">{escape(socket)}</code>, with the subprotocol
<code>threadwire.v1.json</code> or <code>threadwire.v1.msgpack</code>, and send frames:</p>
<pre>{escape(_FRAMES)}</pre>
<p>From Python:</p>
<pre>{escape(_python(socket, threads.default_agent))}</pre>
<p>Over HTTP:</p>
<pre>{escape(_shell(base))}</pre>

<h2>Routes</h2>
<div class="card"><table>{rows}</table></div>
<p class="faint">What every agent accepts is at <a href="{escape(root)}/schema">/schema</a>.{_note(built)}</p>
</main>
</body>
</html>
"""


def _note(built: bool) -> str:
    if built:
        return ""
    return (
        " The playground isn't here: where Node and npm are, <code>make page</code> in a checkout builds it,"
        " and so does installing."
    )


def _host(request: Request) -> str:
    """The host and port that the client used, or else those that the server knows."""
    host = request.headers.get("host", "")
    if _HOST.fullmatch(host):
        return host
    server = request.scope.get("server")
    return f"{server[0]}:{server[1]}" if server and server[1] else "127.0.0.1:8000"


def _agent(name: str, agent: Agent, *, default: bool) -> str:
    tag = '<span class="tag">default</span>' if default else ""
    custom = [kind for kind in agent.registry.types if kind not in BUILT_IN]
    listed = "".join(f"<li>{_command(kind)}</li>" for kind in custom)
    commands = f"<p>Its own commands:</p><ul>{listed}</ul>" if custom else "<p>Built-in commands only.</p>"
    return f'<div class="card"><div class="title"><h3>{escape(name)}</h3>{tag}</div>{commands}</div>'


def _command(kind: type[Command]) -> str:
    """The type and the names of its fields; a `?` marks those that may be left out."""
    fields = ", ".join(
        field.encode_name + ("" if field.required else "?") for field in msgspec.structs.fields(kind)
    )
    return f'<code class="name">{escape(kind.type_name())}</code> <code class="faint">{escape(fields)}</code>'


def _python(socket: str, agent: str) -> str:
    return f"""import asyncio
from threadwire.client import AddMessage, connect

async def main():
    async with connect({json.dumps(socket)}) as connection:
        async with connection.open("thread-1", agent={json.dumps(agent)}) as thread:
            await thread.send(AddMessage.text("hello"))
            async for state in thread.states(until_idle=True):
                print(state)

asyncio.run(main())"""


def _shell(base: str) -> str:
    return f"""curl '{base}/threads'
curl '{base}/threads' -H 'Content-Type: application/json' \\
  -d '{{"id": "thread-2", "title": "Second"}}'
curl '{base}/threads/thread-2/state'
curl '{base}/threads/thread-2/history?after=0'"""
