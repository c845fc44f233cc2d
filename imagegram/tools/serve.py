"""Serve a finished run over HTTP: what it writes, and which training documents that is from.

    python -m imagegram.tools.serve run=outputs/latest port=8000
    curl localhost:8000/generate -H 'Content-Type: application/json' -d '{"prompt": "Once"}'

POST /generate, POST /v1/chat/completions (as OpenAI's clients ask), GET /health, GET /v1/models;
docs/serve.md has every field. Only this machine is answered, unless serve.allow_remote=true.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from imagegram.errors import ConfigError
from imagegram.executors.commands import exit_cleanly
from imagegram.finished_run import open_run
from imagegram.serve.web import LOCAL_HOSTS, Service, make_app, require_fastapi
from imagegram.tools.arguments import parse, tool_parser

_EPILOG: Final = """\
run                 the folder of a finished run (outputs/latest)
port                port (8000); 0: any that is free
max_tokens          tokens that one request may ask for, all its answers together (4096)
serve.allow_remote  true: answer other machines too, which may then use this one (false)
"""
_ANY: Final = "0.0.0.0"
_LARGEST_PORT: Final = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; return the exit status."""
    keys = {"run": "outputs/latest", "port": "8000", "max_tokens": "4096"}
    keys |= {"serve.allow_remote": "false"}
    _, values = parse(tool_parser("serve", __doc__, epilog=_EPILOG), argv, keys)
    require_fastapi()
    is_remote = _flag("serve.allow_remote", values)
    listener = bound(_ANY if is_remote else LOCAL_HOSTS[0], _number("port", values, least=0))
    with listener:
        run = open_run(values["run"])
        most = _number("max_tokens", values, least=1)
        service = Service(name=run.folder.name, writer=run.writer, max_tokens=most)
        run.writer.warm_up()
        port = listener.getsockname()[1]
        print(f"{run.folder} on http://{LOCAL_HOSTS[0]}:{port}; Ctrl-C ends", flush=True)
        if is_remote:
            print(
                f"ATTENTION: serve.allow_remote=true: whoever reaches port {port} of this machine "
                "may use it, without a password",
                flush=True,
            )
        hosts = ("*",) if is_remote else LOCAL_HOSTS
        return _serve(make_app(service, hosts=hosts), listener)


def _serve(app: Any, listener: socket.socket) -> int:
    """Answer until a signal; return the exit status."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        limit_concurrency=256,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    # uvicorn closes everything, then raises the signal again.
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    print("ended", flush=True)
    return 0


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigError: when another program has the port, or it is not ours to take.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port={port} of {host} cannot be had ({error.strerror}); another program has it, or "
            f"it needs more rights: type port={8001 if port == 8000 else 8000}, or port=0 for any "
            "that is free"
        ) from error
    return listener


def _number(key: str, values: Mapping[str, str], *, least: int) -> int:
    text = values[key]
    if not text.isdecimal() or not least <= int(text) <= _LARGEST_PORT:
        raise ConfigError(
            f"{key}={text} must be a whole number in {least} ... {_LARGEST_PORT}; type {key}=8000"
        )
    return int(text)


def _flag(key: str, values: Mapping[str, str]) -> bool:
    if values[key].lower() not in ("true", "false"):
        raise ConfigError(f"{key}={values[key]} must be true or false; type {key}=false")
    return values[key].lower() == "true"


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
