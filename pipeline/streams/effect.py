"""What a handler wants written, in the same atomic step as the acknowledgement of its entry."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis


@dataclass(frozen=True)
class Effect:
    """A piece of Lua that Redis runs together with the acknowledgement, or not at all.

    A handler returns it instead of writing to Redis itself. When the delivery is no longer its consumer's
    (it was paused too long and another one took over) nothing of it runs, so that every effect happens
    exactly once. The text must not vary with the data, which goes into `keys` and `args`: Redis caches
    scripts by their text. Redis does not roll back: what can fail belongs before the first write.

    Attributes:
        lua: The body of a Lua function. It sees `keys` as `KEYS` and `args` as `ARGV`, both from 1, and
            nothing of the script around it; what it returns is returned by `run`.
        keys: Every Redis key it touches.
        args: Everything else it needs.
    """

    lua: str
    keys: tuple[str, ...] = ()
    args: tuple[str, ...] = ()

    @classmethod
    def none(cls) -> Effect:
        """Return the effect of a handler that has nothing to write."""
        return cls("")

    async def run(self, client: Redis) -> object:
        """Run the effect by itself, atomically, for a producer that holds no delivery.

        Returns:
            What the Lua returns, as redis-py converts it.

        Raises:
            redis.exceptions.RedisError: Redis is away or the Lua is wrong. Like a publication this is never
                retried: when the connection breaks, it may have run or not.
        """
        script = client.register_script(self.lua)
        result: object = await script(keys=list(self.keys), args=list(self.args))
        return result
