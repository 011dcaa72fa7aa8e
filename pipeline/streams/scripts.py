"""The Lua that Redis runs: each script is one atomic step in the life of a delivery.

Every script that acts for a delivery begins with `_OWN`: it does nothing unless the entry is still pending
for this consumer *with this delivery count*. A consumer that was paused past its lease, and whose entry was
claimed in the meantime, can therefore neither acknowledge, nor renew, nor publish. Only commands of
Redis 6.2 are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

from redis.asyncio import Redis

from pipeline.streams.delivery import Delivery, Reason, Source
from pipeline.streams.effect import Effect

HANDED_BACK = "handed-back"
"""The pseudo-consumer that holds entries between two deliveries, so that no former owner owns them."""
AT_ONCE_MS = 100_000_000
"""An idle time above every lease."""
FROM_START = "-"
"""The cursor before the first pending entry."""
LOOKS_PER_SLOT = 10
"""Pending entries looked at in one step, as XAUTOCLAIM has it: Redis does nothing else meanwhile."""

# KEYS[1] = stream; ARGV = group, consumer, entry id, delivery count, ...
# A group that is gone (DEL, FLUSHALL) owns nothing. tostring is for fakeredis, whose errors are no strings.
_OWN = """
local own = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if own.err then
  if string.find(tostring(own.err), 'NOGROUP', 1, true) then return 0 end
  return own
end
if #own == 0 or own[1][4] ~= tonumber(ARGV[4]) then return 0 end
"""

_RENEW = _OWN + "redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID') return 1"

# ARGV[5] = idle time in ms, ARGV[6] = the count that the next delivery adds 1 to, ARGV[7] = HANDED_BACK
_HAND_BACK = (
    _OWN
    + """
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[7], 0, ARGV[3],
           'IDLE', ARGV[5], 'RETRYCOUNT', ARGV[6], 'JUSTID')
return 1
"""
)

# The text of the effect; its keys follow KEYS[{keys}], its arguments ARGV[{args}].
_EFFECT = """
local function effect(KEYS, ARGV)
{lua}
end
effect({{unpack(KEYS, {keys} + 1)}}, {{unpack(ARGV, {args} + 1)}})
"""

_REMOVE = """
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
return 1
"""

# KEYS[2] = dead stream; ARGV[5] = starts, ARGV[6] = error, ARGV[7] = failed_at
_TO_DEAD = """
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
local fields = entry and entry[2] or {}
for _, text in ipairs({'origin', KEYS[1], 'entry_id', ARGV[3], 'deliveries', ARGV[5],
                       'error', ARGV[6], 'failed_at', ARGV[7]}) do
  fields[#fields + 1] = text
end
redis.call('XADD', KEYS[2], '*', unpack(fields))
"""

# Appends {id, count, fields, former owner} to `taken`, or to `gone` the id of an entry that was deleted while
# pending. An item of XPENDING is {id, owner, idle time in ms, count}.
#
# The read behind every id delivers nothing. It makes the consumer known and its `idle` small: before Redis
# 7.2 a read of new entries that finds none does neither, and a consumer that waits would look dead.
_TAKE = """
redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '18446744073709551615-0')
local taken, gone = {}, {}
local function take(pending, started)
  local id, owner, count = pending[1], pending[2], pending[4] + started
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    gone[#gone + 1] = id
    return
  end
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', count, 'JUSTID')
  taken[#taken + 1] = {id, count, entry[2], owner}
end
"""

# ARGV = group, consumer, lease in ms, cursor, most entries, how many to look at. What XAUTOCLAIM does, and it
# says whose the entries were and, from Redis 6.2 on, which are gone.
_CLAIM = (
    _TAKE
    + """
local seen = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[4], '+', ARGV[6])
for _, pending in ipairs(seen) do
  if pending[3] >= tonumber(ARGV[3]) then take(pending, 1) end
  if #taken == tonumber(ARGV[5]) then return {'(' .. pending[1], taken, gone} end
end
if #seen < tonumber(ARGV[6]) then return {'-', taken, gone} end
return {'(' .. seen[#seen][1], taken, gone}
"""
)

# ARGV = group, consumer, most entries, ids that are running... What the consumer owns and does not run was
# delivered by a reply that never arrived: it has been counted, it was not started.
_RECOVER = (
    _TAKE
    + """
local running = {}
for i = 4, #ARGV do running[ARGV[i]] = true end
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[3], ARGV[2])) do
  if not running[pending[1]] then take(pending, 0) end
end
return {'-', taken, gone}
"""
)

# ARGV = group, least idle time in ms, name or '' for any. One step, since deleting a consumer that has just
# been given an entry would make that entry unreachable.
_REAP = """
local reaped = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2])
     and (ARGV[3] == '' or ARGV[3] == consumer.name) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    reaped = reaped + 1
  end
end
return reaped
"""


@lru_cache(maxsize=64)
def _finish(effect_lua: str) -> str:
    return _OWN + _EFFECT.format(lua=effect_lua, keys=1, args=4) + _REMOVE


@lru_cache(maxsize=64)
def _bury(effect_lua: str) -> str:
    return _OWN + _EFFECT.format(lua=effect_lua, keys=2, args=7) + _TO_DEAD + _REMOVE


@dataclass(frozen=True)
class Taken:
    """What a claim brought.

    Attributes:
        cursor: Where the next claim goes on; `FROM_START` when every pending entry has been looked at.
        deliveries: To be run.
        gone: Ids of entries deleted while pending; acknowledged, there is nothing left to run.
    """

    cursor: str
    deliveries: tuple[Delivery, ...]
    gone: tuple[str, ...]


class Scripts:
    """The scripts, bound to one client. Every method raises `redis.exceptions.RedisError`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script: Callable[[str], Any] = lru_cache(maxsize=128)(client.register_script)

    async def _owned(
        self, lua: str, delivery: Delivery, keys: tuple[str, ...], args: tuple[str, ...]
    ) -> bool:
        own = (delivery.group, delivery.consumer, delivery.entry_id, str(delivery.count))
        done = await self._script(lua)(keys=(delivery.stream, *keys), args=(*own, *args))
        return bool(done)

    async def load(self) -> None:
        """Make the server know the renewal, so that the first one needs no second message."""
        await self._client.script_load(_RENEW)

    async def renew(self, delivery: Delivery) -> bool:
        """Restart the lease's clock. Returns False if the delivery is no longer its consumer's."""
        return await self._owned(_RENEW, delivery, (), ())

    async def finish(self, delivery: Delivery, effect: Effect) -> bool:
        """Run the effect, acknowledge and delete the entry; False, and nothing done, if not the owner."""
        return await self._owned(_finish(effect.lua), delivery, effect.keys, effect.args)

    async def hand_back(self, delivery: Delivery, *, idle_ms: int, counted: bool) -> bool:
        """Give the entry up for another delivery. Returns False if not the owner.

        Args:
            delivery: What is given up.
            idle_ms: How long the entry shall appear to have been idle: claimable when that reaches the lease.
            counted: Whether this delivery counts as a start.
        """
        count = delivery.count if counted else delivery.count - 1
        return await self._owned(_HAND_BACK, delivery, (), (str(idle_ms), str(count), HANDED_BACK))

    async def bury(self, delivery: Delivery, dead_stream: str, reason: Reason, effect: Effect) -> bool:
        """Run the effect, move the entry to the dead letters; False, and nothing done, if not the owner."""
        failed_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        keys, args = (dead_stream, *effect.keys), (str(reason.starts), reason.error, failed_at, *effect.args)
        return await self._owned(_bury(effect.lua), delivery, keys, args)

    async def claim(
        self, stream: str, group: str, consumer: str, *, lease_ms: int, cursor: str, most: int
    ) -> Taken:
        """Take over up to `most` entries that nobody has renewed for `lease_ms`; counts as a start."""
        args = (group, consumer, lease_ms, cursor, most, most * LOOKS_PER_SLOT)
        reply = await self._script(_CLAIM)(keys=(stream,), args=args)
        return _taken(reply, stream, group, consumer, source="reclaimed")

    async def recover(
        self, stream: str, group: str, consumer: str, *, running: list[str], most: int
    ) -> Taken:
        """Take up what the consumer owns and does not run, looking at its `most` oldest entries."""
        args = (group, consumer, most, *running)
        reply = await self._script(_RECOVER)(keys=(stream,), args=args)
        return _taken(reply, stream, group, consumer, source="recovered")

    async def reap(self, stream: str, group: str, *, idle_ms: int, name: str = "") -> int:
        """Delete consumers (or the one called `name`) that hold nothing and were idle for `idle_ms`."""
        return cast("int", await self._script(_REAP)(keys=(stream,), args=(group, idle_ms, name)))


def _taken(reply: list[Any], stream: str, group: str, consumer: str, *, source: Source) -> Taken:
    cursor, taken, gone = reply
    deliveries = tuple(
        Delivery(
            stream,
            group,
            consumer,
            entry_id,
            dict(zip(flat[::2], flat[1::2], strict=True)),
            count,
            source="handed_back" if owner == HANDED_BACK else source,
        )
        for entry_id, count, flat, owner in taken
    )
    return Taken(cursor, deliveries, tuple(gone))
