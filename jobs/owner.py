"""The owner: a connection flows in, the role that may change the tables flows out, or the advice to name one.

A consumer's role, and that of most jobs, may not change the schema. What drops or swaps partitions does.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text

OWNER: Final = text("""
select current_user as me, owner.rolname as owner, pg_has_role(current_user, owner.oid, 'usage') as is_me
from pg_class join pg_roles owner on owner.oid = relowner
where pg_class.oid = 'game_events'::regclass
""")


class NotTheOwner(Exception):
    """This role may not change the tables."""


def owner_of_tables(connection: Connection) -> str:
    """The name of the role that owns the tables. Raises NotTheOwner where we are not it, nor act for it."""
    me, owner, is_me = connection.execute(OWNER).one()
    if not is_me:
        raise NotTheOwner(
            f"The role {me} may not change the tables, which belong to {owner}: name one that may, as"
            " infamous_migrator, in MIGRATOR_DATABASE_URL."
        )
    return str(owner)
