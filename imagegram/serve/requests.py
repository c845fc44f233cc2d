"""What requests over HTTP ask for, read from JSON: every mistake is a sentence.

>>> read_generate({"prompt": "Once", "max_sentences": 2, "params": {"seed": 1}}).options.seed
1
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagegram.errors import ConfigError, ImagegramError, did_you_mean
from imagegram.serve.transcript import Message, require_role
from imagegram.serve.writer import Options

#: Messages of one conversation.
MAX_MESSAGES: Final = 1000
_GENERATE: Final = ("prompt", "caption", "max_sentences", "params")
_OPTIONS: Final = {"seed": "seed", "max_tokens": "max_tokens", "n": "num_samples"}
_CHAT: Final = (
    *("model", "messages", "stream", "seed", "temperature", "top_p", "max_tokens", "n", "user"),
    "max_sentences",
)


class NotJson(ImagegramError):  # noqa: N818 - a verdict on a request
    """A body that is no JSON object."""


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """A request to ``/generate``.

    Attributes:
        prompt: characters, or ids.
        options: what is asked for.
    """

    prompt: str | list[int]
    options: Options


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A request to ``/v1/chat/completions``.

    Attributes:
        messages: the conversation so far.
        options: what is asked for.
        stream: whether the answer is sent in pieces.
        model: name that is asked for; empty: any.
    """

    messages: tuple[Message, ...]
    options: Options
    stream: bool
    model: str


def parsed(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds.

    Raises:
        NotJson: for anything else.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotJson(
            f"the body is no JSON ({error}); send an object such as "
            '{"prompt": "Once upon a time", "max_sentences": 2}'
        ) from error
    if not isinstance(found, dict):
        raise NotJson(f"the body is JSON, but {_kind(found)} and no object; send {{...}}")
    return found


def read_generate(body: Mapping[str, Any]) -> GenerateRequest:
    """Read a request to ``/generate``.

    ``caption`` is what an image is to show. ``params`` has ``seed``, ``n``, ``max_tokens``, and any
    field of the run's sampler.

    Raises:
        ConfigError: for unknown fields and values that are none.
    """
    _refuse_unknown(body, _GENERATE, where="the request")
    prompt = body.get("prompt", "")
    is_ids = isinstance(prompt, list) and all(_is_whole(token) for token in prompt)
    if not isinstance(prompt, str) and not is_ids:
        raise ConfigError(f"prompt is {_kind(prompt)}; give a text, or a list of ids")
    params = body.get("params")
    if params is not None and not isinstance(params, dict):
        raise ConfigError(f"params is {_kind(params)}; give an object, or leave it out")
    params = dict(params or {})
    named = {field: params.pop(name) for name, field in _OPTIONS.items() if name in params}
    beside: dict[str, Any] = {name: body.get(name) for name in ("caption", "max_sentences")}
    options = Options(knobs=params, **beside, **_given(named))
    return GenerateRequest(prompt=prompt, options=options)


def read_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Read a request to ``/v1/chat/completions``.

    Raises:
        ConfigError: for unknown fields, roles, and values that are none.
    """
    _refuse_unknown(body, _CHAT, where="the request")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ConfigError(
            'messages must be a list of at least one {"role": "user", "content": "..."}, got '
            f"{_kind(messages)}"
        )
    if len(messages) > MAX_MESSAGES:
        raise ConfigError(f"{len(messages)} messages are too many; send at most {MAX_MESSAGES}")
    stream, model = body.get("stream", False), body.get("model", "")
    if not isinstance(stream, bool | None):
        raise ConfigError(f"stream is {_kind(stream)}; give true or false")
    if not isinstance(model, str | None):
        raise ConfigError(f"model is {_kind(model)}; give a text, or leave it out")
    named = {field: body[name] for name, field in _OPTIONS.items() if name in body}
    knobs = {name: body[name] for name in ("temperature", "top_p") if body.get(name) is not None}
    options = Options(max_sentences=body.get("max_sentences"), knobs=knobs, **_given(named))
    return ChatRequest(
        messages=tuple(_message(message) for message in messages),
        options=options,
        stream=bool(stream),
        model=model or "",
    )


def _message(message: Any) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise ConfigError(
            f'a message is {{"role": "user", "content": "..."}} with a text, got {_kind(message)}'
        )
    return Message(role=require_role(message.get("role")), content=message["content"])


def _given(named: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is null: then the default holds."""
    return {name: value for name, value in named.items() if value is not None}


def _refuse_unknown(body: Mapping[str, Any], known: tuple[str, ...], *, where: str) -> None:
    for name in body:
        if name not in known:
            raise ConfigError(f"{where} has a field {name!r}; {did_you_mean(name, known)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """Return what a value of JSON is, in a word."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "nothing"
    return kinds.get(type(value), "a number")
