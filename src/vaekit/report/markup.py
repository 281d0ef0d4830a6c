"""HTML in which text cannot become markup: every child is escaped unless it was made here."""

import html
import unicodedata

# these make a text read in another order than it is written, beyond its own end
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Markup(str):
    """Text that already is HTML. Only `element`, `void` and `joined` make it from text; constants of ours are wrapped."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str) -> Markup:
    """Give `<name attributes>children</name>`.

    Arguments:
        name: Name of the element, a constant of ours.
        children: Text, which is escaped, or `Markup`, which is not.
        attributes: Values are escaped; a trailing underscore of a key is dropped (`class_`), other underscores
            become dashes (`text_anchor`).
    """
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def void(name: str, **attributes: str) -> Markup:
    """Give an element that has no content and no end tag, such as `img`."""
    return Markup(element(name, **attributes).removesuffix(f"</{name}>"))


def joined(*children: str) -> Markup:
    """Put text, which is escaped, and `Markup`, which is not, one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else _escape(child) for child in children))


def visible(text: str, keep: str = "") -> str:
    """Replace the characters that would steer a terminal or a page instead of being seen, and lone surrogates.

    Arguments:
        text: Any text, for instance a name from a file.
        keep: Control characters that are wanted all the same, such as the line break.
    """
    text = str(text)
    if text.isascii() and text.isprintable():  # a picture within a page is a million characters
        return text
    return "".join(character if character in keep or _is_visible(character) else "\ufffd" for character in text)


def _is_visible(character: str) -> bool:
    return character not in _BIDI_CONTROLS and unicodedata.category(character) not in ("Cc", "Cs")


def _escape(text: str) -> str:
    return html.escape(visible(text, keep="\n\t"), quote=True)
