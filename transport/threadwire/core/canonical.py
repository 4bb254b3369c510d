"""The one spelling that equal values share, and the hash of it.

Two values are equal when their canonical bytes are: 1 and 1.0 are, and the order of keys means
nothing. Spec: PROTOCOL.md §2.
"""

from __future__ import annotations

import hashlib

import rfc8785

from .errors import CODES, InvalidValue
from .operations import Json


def canonical(value: Json) -> bytes:
    """The RFC 8785 form of a plain value, in UTF-8.

    Raises:
        InvalidValue: what JSON, or a double, can't hold.
    """
    try:
        return rfc8785.dumps(value)
    except RecursionError:
        code = "too-deep"
    except rfc8785.FloatDomainError:
        code = "not-finite"
    except rfc8785.IntegerDomainError:
        code = "integer-range"
    except UnicodeEncodeError:
        code = "invalid-unicode"  # met while sorting keys
    except rfc8785.CanonicalizationError as error:
        match error.__context__:
            case UnicodeEncodeError():
                code = "invalid-unicode"
            case AttributeError():
                code = "invalid-key"
            case _:
                code = "unsupported-type"
    except ValueError:
        code = "integer-range"  # too many digits for the message of IntegerDomainError
    raise InvalidValue(code, CODES[code])


def state_hash(value: Json) -> str:
    """The SHA-256 of the canonical form, 64 hexadecimal digits. Raises as `canonical` does."""
    return hashlib.sha256(canonical(value)).hexdigest()
