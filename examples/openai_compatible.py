"""A chat model of any server that speaks OpenAI's chat completions, hosted by Threadwire.

    pip install threadwire httpx
    OPENAI_API_KEY=... threadwire serve examples/openai_compatible.py:agent

OPENAI_BASE_URL (default: https://api.openai.com/v1) and OPENAI_MODEL name another server and model.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx

import threadwire
from threadwire.client import ChatModelRunOptions, to_generic_messages
from threadwire_agents.chat_model import ChatModelAgent


async def model(options: ChatModelRunOptions) -> AsyncIterator[dict[str, Any]]:
    """Asks for a completion, and yields the answer as far as it has come."""
    base_url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    headers = {"authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    request = {
        "model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        "stream": True,
        "messages": [_message(each) for each in to_generic_messages(options.messages)],
    }
    text = ""
    async with (
        httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client,
        client.stream("POST", "/chat/completions", json=request) as response,
    ):
        if not response.is_success:
            await response.aread()
            raise threadwire.AgentError(f"the model's server says {response.status_code}")
        async for line in response.aiter_lines():
            data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if not data or data == "[DONE]":
                continue
            for choice in json.loads(data)["choices"]:
                text += choice["delta"].get("content") or ""
                result: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
                if choice.get("finish_reason") == "length":
                    result["status"] = {"type": "incomplete", "reason": "length"}
                yield result


def _message(generic: dict[str, Any]) -> dict[str, Any]:
    """A generic message with its texts and images, as the API has it."""
    if isinstance(generic["content"], str):
        return generic
    parts = [_part(part) for part in generic["content"] if part["type"] in ("text", "file")]
    if generic["role"] == "assistant":
        return {"role": "assistant", "content": "".join(part.get("text", "") for part in parts)}
    return {"role": generic["role"], "content": parts}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    return {"type": "image_url", "image_url": {"url": part["data"]}}


agent = ChatModelAgent(model, name="openai")
