"""The HTTP application: routes over one writer; FastAPI is imported when it is made.

    app = make_app(Service(name="latest", writer=imagegram.open_run("outputs/latest").writer))

Handlers read the body in bounded memory, and let the writer work in a thread. Nothing of a request
is kept. A page of another site cannot ask: its browser sends another Host, or a body that is not
declared as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imagegram.errors import ConfigError, ImagegramError, MissingDependencyError
from imagegram.serve.answers import STOP, Answer, Written
from imagegram.serve.requests import (
    ChatRequest,
    NotJson,
    parsed,
    read_chat,
    read_generate,
)
from imagegram.serve.transcript import before_next_turn, transcript
from imagegram.serve.writer import USUAL_TOKENS, Options, Writer

#: Bytes of the largest body that is read.
MAX_BODY: Final = 1 << 20
#: Names that this machine has for itself.
LOCAL_HOSTS: Final = ("127.0.0.1", "localhost")
_PNG: Final = "image/png"


class Refused(ImagegramError):  # noqa: N818 - a verdict on a request
    """A request that is not answered.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is served, and how much of it.

    Attributes:
        name: of the model: that of the run folder.
        writer: of the finished run.
        max_tokens: tokens of all answers of a request together, at most.
        max_body: bytes of a request, at most.
        started: seconds since 1970 when it was opened.
    """

    name: str
    writer: Writer
    max_tokens: int = 4096
    max_body: int = MAX_BODY
    started: int = field(default_factory=lambda: int(time.time()))

    def check(self, options: Options) -> None:
        """Refuse more tokens than one request may ask for.

        Raises:
            ConfigError: saying how many.
        """
        each = options.max_tokens or (USUAL_TOKENS if self.writer.writes_texts else 1)
        if each * options.num_samples > self.max_tokens:
            raise ConfigError(
                f"{options.num_samples} answers of {each} tokens are more than the "
                f"{self.max_tokens} that one request of this server may ask for; ask for fewer, or "
                "start it with max_tokens=NUMBER"
            )

    def generate(self, body: bytes) -> Written:
        """Answer a request to ``/generate``."""
        request = read_generate(parsed(body))
        self.check(request.options)
        return self.writer.write(request.prompt, request.options)

    def chat(self, request: ChatRequest) -> Written:
        """Answer a request to ``/v1/chat/completions``.

        Raises:
            Refused: for another model than this one.
        """
        if request.model not in ("", self.name):
            raise Refused(
                404, f"model {request.model!r} is not here; leave it out, or ask for {self.name!r}"
            )
        if not self.writer.writes_texts:
            raise ConfigError("this run writes images, which do not chat; POST /generate instead")
        self.check(request.options)
        return self.writer.write(transcript(request.messages), request.options)

    def models(self) -> dict[str, Any]:
        """Return the list of the one model."""
        model = {"id": self.name, "object": "model", "created": self.started}
        return {"object": "list", "data": [model | {"owned_by": "imagegram"}]}

    def health(self) -> dict[str, Any]:
        """Return what is served."""
        writes = "texts" if self.writer.writes_texts else "images"
        exp = self.writer.opened.exp
        parts = {"generator": exp.generator.name, "sampler": exp.sampler.name}
        return {"status": "ok", "run": self.name, "writes": writes, **parts}


def completion(service: Service, written: Written) -> dict[str, Any]:
    """Return an answer to a conversation, in the words of chat completions."""
    choices = [
        {
            "index": place,
            "message": {"role": "assistant", "content": _said(answer)},
            "finish_reason": _finish(answer),
            **_provenance(answer),
        }
        for place, answer in enumerate(written)
    ]
    tokens = sum(len(answer.tokens) for answer in written)
    usage = {
        "prompt_tokens": written.prompt_tokens,
        "completion_tokens": tokens,
        "total_tokens": written.prompt_tokens + tokens,
        "dropped_tokens": written.dropped_tokens,
    }
    return _head(service, written, "chat.completion") | {"choices": choices, "usage": usage}


def events(service: Service, written: Written) -> Iterator[str]:
    """Yield an answer to a conversation as server-sent events, token by token.

    The text is written before the first of them: what is copied is known when it is whole.
    """
    head = _head(service, written, "chat.completion.chunk")

    def event(place: int, delta: Mapping[str, Any], **more: Any) -> str:
        choice = {"index": place, "delta": delta, "finish_reason": None} | more
        return f"data: {json.dumps(head | {'choices': [choice]})}\n\n"

    for place, answer in enumerate(written):
        yield event(place, {"role": "assistant"})
        left = len(_said(answer))
        for piece in answer.pieces():
            if left > 0:
                yield event(place, {"content": piece[:left]})
            left -= len(piece)
        yield event(place, {}, finish_reason=_finish(answer), **_provenance(answer))
    yield "data: [DONE]\n\n"


def _said(answer: Answer) -> str:
    return before_next_turn(answer.text or "")


def _finish(answer: Answer) -> str:
    return answer.finish_reason if _said(answer) == answer.text else STOP


def _provenance(answer: Answer) -> dict[str, Any]:
    """Return the copied spans that lie in what is said."""
    size = len(_said(answer))
    return {"spans": [span.json() for span in answer.spans if span.last <= size]}


def _head(service: Service, written: Written, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{written.seed}",
        "object": kind,
        "created": service.started,
        "model": service.name,
        "seed": written.seed,
    }


def make_app(service: Service, *, hosts: tuple[str, ...] = LOCAL_HOSTS) -> Any:
    """Make the application.

    Args:
        service: what is served.
        hosts: names by which it may be called; ``*``: any.

    Raises:
        MissingDependencyError: without FastAPI.
    """
    fastapi = require_fastapi()
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = fastapi.FastAPI(title="imagegram", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    handlers = _Handlers(service)
    app.add_route("/health", handlers.health, methods=["GET"])
    app.add_route("/v1/models", handlers.models, methods=["GET"])
    app.add_route("/generate", handlers.generate, methods=["POST"])
    app.add_route("/v1/chat/completions", handlers.chat, methods=["POST"])
    app.add_exception_handler(404, handlers.absent)
    app.add_exception_handler(405, handlers.absent)
    return app


def require_fastapi() -> Any:
    """Return the package FastAPI.

    Raises:
        MissingDependencyError: when it is not installed.
    """
    try:
        import fastapi
        import uvicorn  # noqa: F401 - the server is needed too
    except ImportError as error:
        raise MissingDependencyError(
            f"serving needs fastapi and uvicorn ({error}); type: pip install 'imagegram[serve]'"
        ) from error
    return fastapi


class _Handlers:
    """Handlers of the routes; each takes a request of Starlette."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def health(self, request: Any) -> Any:
        return _json(self.service.health())

    async def models(self, request: Any) -> Any:
        return _json(self.service.models())

    async def absent(self, request: Any, error: Any) -> Any:
        """Say what there is."""
        there = "POST /generate, POST /v1/chat/completions, GET /health, GET /v1/models"
        return _error(error.status_code, f"{request.method} {request.url.path}: there are {there}")

    async def generate(self, request: Any) -> Any:
        """Write behind a prompt: JSON, or a PNG where that is accepted."""
        return await self._answered(request, self._generated)

    async def chat(self, request: Any) -> Any:
        """Go on with a conversation: JSON, or server-sent events."""
        return await self._answered(request, self._chatted)

    async def _answered(self, request: Any, answer: Any) -> Any:
        """Return an answer, or the sentence that refuses."""
        try:
            return await answer(request, await self._body(request))
        except Refused as error:
            return _error(error.status, str(error))
        except NotJson as error:
            return _error(400, str(error))
        except ImagegramError as error:
            return _error(422, str(error))

    async def _generated(self, request: Any, body: bytes) -> Any:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import Response

        written = await run_in_threadpool(self.service.generate, body)
        wants_png = _PNG in request.headers.get("accept", "")
        if not wants_png or written[0].image is None:
            return _json({"run": self.service.name} | written.json())
        if len(written) > 1:
            raise ConfigError("a PNG is one image: ask for n=1, or accept application/json")
        headers = {"X-Imagegram-Copied-Share": f"{written[0].copied_share:.6f}"}
        return Response(written[0].png(), media_type=_PNG, headers=headers)

    async def _chatted(self, request: Any, body: bytes) -> Any:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import StreamingResponse

        asked = read_chat(parsed(body))
        written = await run_in_threadpool(self.service.chat, asked)
        if not asked.stream:
            return _json(completion(self.service, written))
        return StreamingResponse(_slowly(self.service, written), media_type="text/event-stream")

    async def _body(self, request: Any) -> bytes:
        """Read the body, as long as it may be.

        Raises:
            Refused: for a longer one, or one that is not declared as JSON.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(
                415,
                f"the body is declared as {kind or 'nothing'}; send the header "
                "Content-Type: application/json",
            )
        most = self.service.max_body
        too_large = Refused(413, f"the body is larger than {most:,} bytes; send less")
        if int(request.headers.get("content-length") or 0) > most:
            raise too_large
        read = bytearray()
        async for part in request.stream():
            read += part
            if len(read) > most:
                raise too_large
        return bytes(read)


async def _slowly(service: Service, written: Written) -> AsyncIterator[str]:
    for event in events(service, written):
        yield event


def _json(content: Mapping[str, Any], status: int = 200) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status_code=status)


def _error(status: int, reason: str) -> Any:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return _json({"error": {"message": reason, "type": kind, "code": status}}, status)
