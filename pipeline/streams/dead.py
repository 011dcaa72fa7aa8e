"""Dead letters: entries that were given up, as they were, with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis

from pipeline.streams.effect import Effect
from pipeline.streams.errors import RetryRefusedError

HISTORY = "history"
"""The field in which a retried entry carries its earlier deaths, a JSON list, oldest first."""
_ADDED = ("origin", "entry_id", "deliveries", "error", "failed_at")

# KEYS[1] = dead stream, KEYS[2] = origin; ARGV = id, HISTORY, history; then the keys and arguments of the
# effect. The entry's own fields are copied inside Redis, so that no byte of them changes; the last 10 texts
# are the 5 fields added at death.
_RETRY = """
local dead = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not dead then return false end
local function put_back()
  local fields = {{}}
  for i = 1, #dead[2] - 10, 2 do
    if dead[2][i] ~= ARGV[2] then
      fields[#fields + 1] = dead[2][i]
      fields[#fields + 1] = dead[2][i + 1]
    end
  end
  fields[#fields + 1] = ARGV[2]
  fields[#fields + 1] = ARGV[3]
  redis.call('XDEL', KEYS[1], ARGV[1])
  return redis.call('XADD', KEYS[2], '*', unpack(fields))
end
local function effect(KEYS, ARGV)
{lua}
end
return effect({{unpack(KEYS, 3)}}, {{unpack(ARGV, 4)}})
"""
PUT_BACK = Effect("return put_back()")
"""The effect of a retry that nothing else depends on."""


@dataclass(frozen=True)
class DeadLetter:
    """One entry that was given up.

    Attributes:
        dead_id: Its id among the dead letters.
        origin: The stream it came from.
        entry_id: The id it had there.
        deliveries: How often it was started.
        error: Why it was given up.
        failed_at: When, RFC 3339.
        fields: The entry as it was.
        history: Its earlier deaths, oldest first, each with `entry_id`, `deliveries`, `error`, `failed_at`.
    """

    dead_id: str
    origin: str
    entry_id: str
    deliveries: int
    error: str
    failed_at: str
    fields: Mapping[str, str]
    history: tuple[Mapping[str, str], ...]


class DeadLetters:
    """The dead letters of one or more streams. Methods raise `redis.exceptions.RedisError` if Redis is away.

    Args:
        client: From `connect`.
        stream: The stream that consumers name as their `dead_stream`.
    """

    def __init__(self, client: Redis, stream: str) -> None:
        self._client = client
        self._stream = stream

    async def list(self, limit: int | None = 100) -> list[DeadLetter]:
        """Return the newest dead letters, newest first; all of them without a limit."""
        found: Any = await self._client.xrevrange(self._stream, count=limit)
        return [_read(*entry) for entry in found]

    async def show(self, dead_id: str) -> DeadLetter | None:
        """Return one dead letter, or None if there is none of that id."""
        found: Any = await self._client.xrange(self._stream, dead_id, dead_id)
        # Redis takes an id without its second part for all that begin so.
        return _read(*found[0]) if found and found[0][0] == dead_id else None

    async def retry(self, dead_id: str, effect: Effect = PUT_BACK) -> str | None:
        """Put an entry back where it came from, as a new entry with a fresh count and its history.

        Removal, return and effect are one step: a letter retried by two people at once comes back once.

        Args:
            dead_id: Which.
            effect: What else the retry changes. Its Lua calls `put_back()`, which moves the entry and returns
                its new id, and returns that id; or it returns `{'why'}`, and then has changed nothing.

        Returns:
            The id of the new entry, or None if there is no such dead letter.

        Raises:
            RetryRefusedError: The effect says why the entry is not to come back.
        """
        letter = await self.show(dead_id)
        if letter is None:
            return None
        death = {
            "entry_id": letter.entry_id,
            "deliveries": str(letter.deliveries),
            "error": letter.error,
            "failed_at": letter.failed_at,
        }
        history = json.dumps([*letter.history, death])
        script = self._client.register_script(_RETRY.format(lua=effect.lua))
        reply: Any = await script(
            keys=[self._stream, letter.origin, *effect.keys], args=[dead_id, HISTORY, history, *effect.args]
        )
        if isinstance(reply, list):
            raise RetryRefusedError(reply[0])
        return cast("str | None", reply)

    async def drop(self, dead_id: str) -> bool:
        """Delete a dead letter for good. Returns whether it was there."""
        return bool(await self._client.xdel(self._stream, dead_id))


def _read(dead_id: str, stored: dict[str, Any]) -> DeadLetter:
    fields = {name: value for name, value in stored.items() if name not in _ADDED}
    return DeadLetter(
        dead_id=dead_id,
        origin=stored["origin"],
        entry_id=stored["entry_id"],
        deliveries=int(stored["deliveries"]),
        error=stored["error"],
        failed_at=stored["failed_at"],
        fields=fields,
        history=tuple(json.loads(fields.get(HISTORY, "[]"))),
    )
