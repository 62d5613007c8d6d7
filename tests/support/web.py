"""A reader of pages: keeps cookies, follows redirects one at a time, fills forms as they are written. No JavaScript."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import urllib3

VOID = frozenset({"input", "br", "img", "meta", "link", "hr", "source", "area", "base", "col", "embed", "track", "wbr"})
MAX_REDIRECTS = 15


@dataclass
class Control:
    """An input, button, select or textarea of a form."""

    tag: str
    name: str | None
    value: str
    type: str
    id: str | None
    required: bool
    checked: bool = False


@dataclass
class Form:
    """A form as the page gives it."""

    action: str
    method: str
    enctype: str
    id: str | None
    controls: list[Control] = field(default_factory=list)

    def names(self) -> set[str]:
        return {control.name for control in self.controls if control.name}

    def has(self, id_or_name: str) -> bool:
        return any(id_or_name in (control.id, control.name) for control in self.controls)

    def data(self, values: Mapping[str, str], press: str | None = None) -> list[tuple[str, str]]:
        """What a browser would send: hidden and default values, `values` over them, and the pressed button."""
        unknown = set(values) - self.names()
        assert not unknown, f"the form has no {sorted(unknown)}; it has {sorted(self.names())}"
        sent: list[tuple[str, str]] = []
        given = dict(values)
        for control in self.controls:
            if not control.name:
                continue
            if control.type in ("submit", "image") or (control.tag == "button" and control.type != "button"):
                if press is not None and press in (control.id, control.name, control.value):
                    sent.append((control.name, control.value))
                continue
            if control.type in ("radio", "checkbox"):
                if control.name in given:
                    if given[control.name] == control.value:
                        sent.append((control.name, control.value))
                elif control.checked:
                    sent.append((control.name, control.value))
                continue
            if control.type in ("file", "button", "reset"):
                continue
            sent.append((control.name, given.get(control.name, control.value)))
        return sent


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.links: list[dict[str, str]] = []
        self.ids: set[str] = set()
        self.language = ""
        self.title = ""
        self.text: list[str] = []
        self.images: list[str] = []
        self._open: Form | None = None
        self._skip = 0
        self._title = False
        self._textarea: Control | None = None
        self._select: Control | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if "id" in given:
            self.ids.add(given["id"])
        match tag:
            case "html":
                self.language = given.get("lang", "")
            case "title":
                self._title = True
            case "script" | "style":
                self._skip += 1
            case "a":
                self.links.append(given)
            case "img":
                self.images.append(given.get("src", ""))
            case "form":
                self._open = Form(
                    given.get("action", ""),
                    given.get("method", "get").lower(),
                    given.get("enctype", "application/x-www-form-urlencoded"),
                    given.get("id"),
                )
                self.forms.append(self._open)
            case "option":
                if self._select is not None and ("selected" in given or not self._select.value):
                    self._select.value = given.get("value", "")
            case "input" | "button" | "textarea" | "select":
                self._control(tag, given)

    def _control(self, tag: str, given: dict[str, str]) -> None:
        default = {"input": "text", "button": "submit"}.get(tag, tag)
        value = given.get("value", "on" if given.get("type") in ("checkbox", "radio") else "")
        control = Control(
            tag,
            given.get("name"),
            value,
            given.get("type", default),
            given.get("id"),
            "required" in given,
            "checked" in given,
        )
        if self._open is not None:
            self._open.controls.append(control)
        elif given.get("form"):
            for form in self.forms:
                if form.id == given["form"]:
                    form.controls.append(control)
        if tag == "textarea":
            self._textarea = control
        if tag == "select":
            self._select = control

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "form":
                self._open = None
            case "title":
                self._title = False
            case "script" | "style":
                self._skip -= 1
            case "textarea":
                self._textarea = None
            case "select":
                self._select = None

    def handle_data(self, data: str) -> None:
        if self._title:
            self.title += data
        elif self._textarea is not None:
            self._textarea.value += data
        elif not self._skip and data.strip():
            self.text.append(data.strip())


@dataclass(frozen=True)
class Answer:
    """One HTTP response; parsed on demand."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def location(self) -> str | None:
        where = self.headers.get("location")
        return None if where is None else urljoin(self.url, where)

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the redirect, or of this address when it is none."""
        return dict(parse_qsl(urlsplit(self.location or self.url).query))

    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.text)
        reader.close()
        return reader

    @property
    def forms(self) -> list[Form]:
        return self._read().forms

    def form(self, id_or_name: str) -> Form:
        """The form that holds a control of this id or name, or has this id."""
        for form in self.forms:
            if form.id == id_or_name or form.has(id_or_name):
                return form
        raise AssertionError(f"no form with {id_or_name!r} at {self.url} ({self.status}):\n{self.words[:1500]}")

    def has_form(self, id_or_name: str) -> bool:
        return any(form.id == id_or_name or form.has(id_or_name) for form in self.forms)

    @property
    def ids(self) -> set[str]:
        return self._read().ids

    @property
    def links(self) -> list[dict[str, str]]:
        return self._read().links

    @property
    def images(self) -> list[str]:
        return self._read().images

    @property
    def language(self) -> str:
        return self._read().language

    @property
    def title(self) -> str:
        return self._read().title.strip()

    @property
    def words(self) -> str:
        """The text a person reads."""
        return " ".join(self._read().text)


class Walker:
    """One person's browser, or one program's HTTP client."""

    def __init__(self, origin: str, *, language: str = "en", trust: Path | None = None) -> None:
        """`trust`: a PEM file with the authority of the server's TLS certificate."""
        self.origin = origin.rstrip("/")
        self.language = language
        self.cookies: dict[str, str] = {}
        timeout = urllib3.Timeout(connect=5, read=120)
        authorities = str(trust) if trust else None
        self._pool = urllib3.PoolManager(retries=False, timeout=timeout, maxsize=16, ca_certs=authorities)

    def close(self) -> None:
        self._pool.clear()

    def request(
        self,
        method: str,
        address: str,
        *,
        body: bytes | None = None,
        form: Iterable[tuple[str, str]] | Mapping[str, str] | None = None,
        data: Any = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One exchange, no redirect followed. `form` is sent url-encoded, `data` as JSON, `files` as multipart."""
        url = urljoin(self.origin + "/", address)
        sent = {"Accept-Language": self.language, "Accept": "text/html,application/json;q=0.9,*/*;q=0.8"}
        if method == "POST":
            sent["Origin"] = self.origin
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if files is not None:
            fields: list[tuple[str, Any]] = list(form.items() if isinstance(form, Mapping) else form or ())
            body, kind = urllib3.encode_multipart_formdata([*fields, *files.items()])
            sent["Content-Type"] = kind
        elif form is not None:
            body = urlencode(list(form.items() if isinstance(form, Mapping) else form)).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        elif data is not None:
            body = json.dumps(data).encode()
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        answer = self._pool.request(method, url, body=body, headers=sent, redirect=False)
        self._keep_cookies(answer.headers)
        return Answer(url, answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.data)

    def _keep_cookies(self, headers: Any) -> None:
        for line in headers.getlist("set-cookie"):
            parsed: SimpleCookie = SimpleCookie()
            parsed.load(line)
            for name, morsel in parsed.items():
                if morsel["max-age"] == "0" or not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value

    def get(self, address: str, **more: Any) -> Answer:
        return self.request("GET", address, **more)

    def post(self, address: str, **more: Any) -> Answer:
        return self.request("POST", address, **more)

    def follow(self, answer: Answer) -> Answer:
        """Follow redirects while they stay with our own origin; the first one that leaves is returned unfollowed."""
        for _ in range(MAX_REDIRECTS):
            where = answer.location
            if answer.status not in (301, 302, 303, 307, 308) or where is None:
                return answer
            if not where.startswith(self.origin + "/") and where != self.origin:
                return answer
            answer = self.get(where)
        raise AssertionError(f"redirects without end, last to {answer.url}")

    def open(self, address: str) -> Answer:
        return self.follow(self.get(address))

    def submit(
        self,
        page: Answer,
        form: Form,
        values: Mapping[str, str] | None = None,
        *,
        press: str | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
    ) -> Answer:
        """Send a form of a page as a browser would, then follow."""
        pairs = form.data(values or {}, press)
        address = urljoin(page.url, form.action or page.url)
        if form.method == "get":
            return self.follow(self.get(f"{address}?{urlencode(pairs)}"))
        if form.enctype == "multipart/form-data":
            return self.follow(self.post(address, form=pairs, files=files or {}))
        return self.follow(self.post(address, form=pairs))


def until(condition: Any, *, seconds: float = 30, every: float = 0.1) -> Any:
    """The first true answer of `condition()`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(every)
