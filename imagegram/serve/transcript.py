r"""A conversation as one text that a generator continues: who says what is kept.

>>> transcript([Message("system", "Be brief."), Message("user", "Hello?")])
'Be brief.\n\nUser: Hello?\nAssistant:'
>>> before_next_turn(" Hello.\nUser: And now?")
' Hello.'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from imagegram.errors import ConfigError, did_you_mean

#: Roles, and what a line of theirs begins with.
ROLES: Final = {"system": "", "user": "User: ", "assistant": "Assistant: "}
_NEXT_TURN: Final = re.compile(r"\s*\n(User|Assistant):")


class Message(NamedTuple):
    """What one side says.

    Attributes:
        role: one of :data:`ROLES`.
        content: the text.
    """

    role: str
    content: str


def require_role(role: object) -> str:
    """Return a role.

    Raises:
        ConfigError: for any other.
    """
    if not isinstance(role, str) or role not in ROLES:
        raise ConfigError(f"role {role!r} is unknown; {did_you_mean(str(role), ROLES)}")
    return role


def transcript(messages: Sequence[Message]) -> str:
    """Return the text of a conversation, up to where the assistant speaks.

    A paragraph for what the system says; then a line for each turn, which begins with its role.
    """
    system = [message.content for message in messages if message.role == "system"]
    turns = [
        f"{ROLES[message.role]}{message.content}"
        for message in messages
        if message.role != "system"
    ]
    return "\n\n".join([*system, "\n".join([*turns, ROLES["assistant"].rstrip()])])


def before_next_turn(text: str) -> str:
    """Return what the assistant says, without the turns that a generator goes on with."""
    found = _NEXT_TURN.search(text)
    return text[: found.start()] if found else text
