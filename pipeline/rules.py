"""Rules: what stored events prove of themselves: SQL for whoever checks them. Nothing flows in or out.

Per player ``seq`` has no gap, karma follows from the row before, the rank from the karma, XP never falls
below zero, and the id fixes the time.
"""

from __future__ import annotations

from typing import Final

RULES: Final = {
    "seq": "a player's seq counts from 1 without a gap or a repetition",
    "karma": "karma_total is the player's previous karma_total plus karma_delta",
    "rank": "rank follows karma_total",
    "xp": "a player's XP never falls below zero",
    "time": "ts is the time in the id, a UUIDv7",
}

# The rules that a row breaks, a row each. It takes, beside the columns of a row, previous_seq and
# previous_karma, of the player's row before it (null: not known, and not checked), and xp, the player's
# after it. Ranks are spelled out: who checks must not trust the constraint it checks.
BROKEN: Final = """
unnest(array_remove(array[
    case when seq <> previous_seq + 1 then 'seq' end,
    case when seq = previous_seq + 1 and karma_total <> previous_karma + karma_delta
           or seq = 1 and karma_total <> karma_delta then 'karma' end,
    case when seq is not null and xp < 0 then 'xp' end,
    case when rank <> case when karma_total <= -75 then 'Infamous'
                           when karma_total <= -40 then 'Outlaw'
                           when karma_total <= -15 then 'Thug'
                           when karma_total < 15 then 'Neutral'
                           when karma_total < 40 then 'Guardian'
                           when karma_total < 75 then 'Champion'
                           else 'Hero' end then 'rank' end,
    case when ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint
              <> extract(epoch from ts) * 1000
           or substr(id::text, 15, 1) <> '7'
           or substr(id::text, 20, 1) not in ('8', '9', 'a', 'b') then 'time' end
], null))
"""
