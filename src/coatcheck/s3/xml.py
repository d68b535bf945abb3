"""The little XML that S3 speaks: replies read with bounds and suspicion, requests written."""

import re
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from coatcheck.errors import Unsupported, printable

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Element:
    """An element of a reply. Namespaces are ignored: servers disagree about them."""

    def __init__(self, element: ElementTree.Element) -> None:
        self._element = element

    @property
    def name(self) -> str:
        """The tag, without its namespace."""
        return self._element.tag.rpartition("}")[2]

    def text(self, name: str) -> str:
        """Return the text of the first child called `name`, or "" where there is none."""
        for child in self._element:
            if child.tag.rpartition("}")[2] == name:
                return child.text or ""
        return ""

    def all(self, name: str) -> list["Element"]:
        """Return the children called `name`, in order."""
        return [Element(child) for child in self._element if child.tag.rpartition("}")[2] == name]


def parse(body: bytes) -> Element:
    """Read a reply. Raises Unsupported for what is not XML, or declares entities.

    No S3 reply has a document type; refusing them closes the door to entity bombs. White space
    around a reply is what servers send to keep the connection alive while they work.
    """
    # In UTF-16 a document type would be other bytes; its NULs betray it.
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body or b"\0" in body:
        raise Unsupported(
            "the server answered with an HTML page or an XML document type, not with S3's XML",
            remedy="Check that the endpoint is an S3 server and not a web page or a proxy",
        )
    # UTF-8 whatever the reply declares: the parser would look for a codec of that name, and fail
    # in as many ways as there are codecs.
    parser = ElementTree.XMLParser(encoding="utf-8")
    try:
        return Element(ElementTree.fromstring(body.strip(), parser))
    except ElementTree.ParseError as error:
        shown = printable(body[:80].decode("utf-8", "replace"))
        raise Unsupported(
            f"the server's answer is not XML ({error}): {shown!r}",
            remedy="Check that the endpoint is an S3 server and not a web page or a proxy",
        ) from error


_ERROR = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<Error[\s/>]")


def is_error(body: bytes) -> bool:
    """Whether the outermost element is S3's Error; one further in is about a part of the work."""
    return _ERROR.match(body) is not None


def delete_request(keys: list[str]) -> bytes:
    """Write the body of DeleteObjects. Keys with characters that XML cannot hold are refused by
    the caller: they must be deleted one by one."""
    objects = "".join(f"<Object><Key>{_escaped(key)}</Key></Object>" for key in keys)
    return f'<Delete xmlns="{NAMESPACE}"><Quiet>true</Quiet>{objects}</Delete>'.encode()


def complete_request(etags: dict[int, str]) -> bytes:
    """Write the body of CompleteMultipartUpload: ETags by part number."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{_escaped(etag)}</ETag></Part>"
        for number, etag in sorted(etags.items())
    )
    xmlns = f'xmlns="{NAMESPACE}"'
    return f"<CompleteMultipartUpload {xmlns}>{parts}</CompleteMultipartUpload>".encode()


def can_hold(text: str) -> bool:
    """Whether XML 1.0 can hold `text`: no control characters but tab, and no lone surrogates.

    Line ends are left out too: a parser would normalise them into another key.
    """
    return not any(
        (char < " " and char != "\t") or "\ud800" <= char <= "\udfff" or char in "\ufffe\uffff"
        for char in text
    )


def _escaped(text: str) -> str:
    return escape(text, {'"': "&quot;"})
