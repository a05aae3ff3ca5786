"""SQL with its parameters' values in it, as Redash sends it: a Query and values flow in, text flows out."""

from __future__ import annotations

import re
from typing import Final

from analytics.redash.model import Json, Query

_USED: Final = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")


def rendered(query: Query, **values: Json) -> str:
    """The SQL with these values, and the defaults of the other parameters.

    Nothing is escaped, as Redash escapes nothing. KeyError for a parameter that the query does not have.
    """
    unknown = set(values) - set(query.defaults)
    if unknown:
        raise KeyError(min(unknown))
    flat: dict[str, str] = {}
    for parameter in query.parameters:
        value = values.get(parameter.name, parameter.default)
        if isinstance(value, dict):
            flat |= {f"{parameter.name}.{end}": str(one) for end, one in value.items()}
        elif isinstance(value, list):
            quote = "'" if parameter.multiple else ""
            flat[parameter.name] = ",".join(f"{quote}{one}{quote}" for one in value)
        else:
            flat[parameter.name] = str(value)
    return _USED.sub(lambda found: flat[found[1]], query.sql)
