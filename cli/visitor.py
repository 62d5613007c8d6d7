"""A person's browser, as far as pages without script need one: cookies, redirects, forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from core.errors import CodedError

MAX_REDIRECTS = 12
TIMEOUT_SECONDS = 60.0


class PageUnexpected(CodedError):
    """A page was not the one this step expects."""

    code = "page_unexpected"
    exit_code = 1


@dataclass
class Form:
    """A form of a page: where it goes, what it already holds, the ids of its controls by name."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """What came back: address, status, headers with lower-case names, body, and the forms and links in it."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    forms: tuple[Form, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def form_with(self, element_id: str) -> Form:
        """The form that holds the control with that id. Raises PageUnexpected."""
        for form in self.forms:
            if element_id in form.ids.values() or element_id in form.buttons:
                return form
        raise PageUnexpected(f"{urlsplit(self.url).path} ({self.status}) has no control {element_id}")

    def has(self, element_id: str) -> bool:
        """Whether the page holds a control or link with that id."""
        return element_id in self.links or any(
            element_id in form.ids.values() or element_id in form.buttons for form in self.forms
        )


class Visitor:
    """Walks pages of one origin; a redirect that leaves it is handed back instead of followed."""

    def __init__(self, origin: str, *, language: str = "mn") -> None:
        self.origin = origin.rstrip("/")
        self._language = language
        self._cookies: dict[str, str] = {}
        self._pool = urllib3.PoolManager(timeout=TIMEOUT_SECONDS, retries=False)

    def get(self, url: str) -> Page:
        """Open a page."""
        return self._go("GET", urljoin(self.origin, url), None)

    def submit(self, page: Page, element_id: str, values: Mapping[str, str] | None = None) -> Page:
        """Fill the form around the control ``element_id`` (values by control id) and press its button."""
        form = page.form_with(element_id)
        fields = dict(form.fields)
        names = {identifier: name for name, identifier in form.ids.items()}
        for identifier, value in (values or {}).items():
            if identifier not in names:
                raise PageUnexpected(f"{urlsplit(page.url).path} has no control {identifier}")
            fields[names[identifier]] = value
        if element_id in form.buttons and form.buttons[element_id][0]:
            name, value = form.buttons[element_id]
            fields[name] = value
        target = urljoin(page.url, form.action or page.url)
        if form.method == "get":
            return self._go("GET", f"{target.split('?')[0]}?{urlencode(fields)}", None)
        return self._go("POST", target, fields)

    def _go(self, method: str, url: str, fields: Mapping[str, str] | None) -> Page:
        for _ in range(MAX_REDIRECTS):
            if not url.startswith(self.origin + "/"):
                return Page(url, 302, {}, b"")
            response = self._send(method, url, fields)
            location = response.headers.get("location")
            if not 300 <= response.status < 400 or location is None or response.status == 304:
                return _read(url, response)
            url, method, fields = urljoin(url, location), "GET", None
        raise PageUnexpected("too many redirects")

    def _send(self, method: str, url: str, fields: Mapping[str, str] | None) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "text/html,*/*", "Accept-Language": self._language}
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        body = None
        if fields is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin}
            body = urlencode(fields).encode()
        response = self._pool.request(method, url, body=body, headers=headers, redirect=False)
        for line in response.headers.getlist("set-cookie"):
            self._keep(line)
        return response

    def _keep(self, line: str) -> None:
        for name, morsel in SimpleCookie(line).items():
            if morsel.value and morsel["max-age"] != "0":
                self._cookies[name] = morsel.value
            else:
                self._cookies.pop(name, None)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self.images: list[str] = []
        self._open: Form | None = None

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(given.get("action", ""), given.get("method", "get").lower())
            self.forms.append(self._open)
        elif tag == "a" and "href" in given:
            self.links[given.get("id") or given["href"]] = given["href"]
        elif tag == "img" and "src" in given:
            self.images.append(given["src"])
        elif self._open is not None and tag in ("input", "button", "select", "textarea"):
            self._control(self._open, tag, given)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None

    @staticmethod
    def _control(form: Form, tag: str, given: Mapping[str, str]) -> None:
        name, kind = given.get("name", ""), given.get("type", "submit" if tag == "button" else "text").lower()
        if kind in ("submit", "button"):
            form.buttons[given.get("id", name)] = (name, given.get("value", ""))
        elif name:
            if kind not in ("checkbox", "radio") or "checked" in given:
                form.fields[name] = given.get("value", "on" if kind == "checkbox" else "")
            form.ids[name] = given.get("id", name)


def _read(url: str, response: urllib3.BaseHTTPResponse) -> Page:
    headers = {name.lower(): value for name, value in response.headers.items()}
    reader = _Reader()
    if headers.get("content-type", "").startswith("text/html"):
        reader.feed(response.data.decode("utf-8", "replace"))
    return Page(
        url, response.status, headers, response.data, tuple(reader.forms), dict(reader.links), tuple(reader.images)
    )
