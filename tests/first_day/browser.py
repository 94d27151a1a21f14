"""A person in front of the pages: cookies, forms as the page holds them, and the code of an authenticator app."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import re
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import requests

TOTP_PERIOD = 30
ANSWER_SECONDS_MAX = 60
SECOND_LOOK = "Nothing has happened yet."
ASKED_AGAIN = "/reauthenticate/"
Files = Sequence[tuple[str, tuple[str, bytes, str]]]


class UnableToGoOn(Exception):
    """A page or a command gives another answer than the page of the documentation promises."""


@dataclass
class Form:
    """A form of a page: its address, the values that a browser would send unchanged, and the words of its buttons."""

    action: str
    method: str
    values: list[tuple[str, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    choices: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of each choice, its words and its value."""
    buttons: list[tuple[str, str, str]] = field(default_factory=list)
    """Words, name and value."""


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.forms, self._form = url, list[Form](), None
        self._select = self._button = self._area = ""
        self._option: tuple[str, bool] | None = None
        self._first: str | None = None
        self._words: list[str] = []
        self._radios: dict[str, str] = {}
        self._by_id: dict[str, tuple[str, str]] = {}
        self._label: str | None = None
        self._label_words: list[str] = []

    _form: Form | None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(urljoin(self.url, of.get("action", "")), of.get("method", "get").lower())
            self.forms.append(self._form)
        if tag == "label":
            self._label, self._label_words = of.get("for", ""), []
        form = self._form
        if form is None:
            return
        name = of.get("name", "")
        if tag in {"input", "select", "textarea"} and name:
            form.names.add(name)
        if tag == "input":
            kind = of.get("type", "text")
            if kind in {"submit", "image"}:
                form.buttons.append((of.get("value", ""), name, of.get("value", "")))
            elif kind in {"radio", "checkbox"}:
                value = of.get("value", "on")
                form.choices.setdefault(name, {})[value] = value
                self._by_id[of.get("id", "")] = (name, value)
                if "checked" in of:
                    form.values.append((name, value))
            elif kind != "file" and name:
                form.values.append((name, of.get("value", "")))
        elif tag == "select":
            self._select, self._first = name, None
        elif tag == "option":
            self._option, self._words = (of.get("value", ""), "selected" in of), []
        elif tag == "textarea":
            self._area, self._words = name, []
        elif tag == "button" and of.get("type", "submit") == "submit":
            self._button, self._words = f"{name}\0{of.get('value', '')}", []

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        self._label_words.append(data)

    def handle_endtag(self, tag: str) -> None:
        words = " ".join("".join(self._words).split())
        form = self._form
        if tag == "label" and form is not None and self._label is not None:
            name, value = self._by_id.get(self._label, ("", ""))
            if name:
                form.choices[name][" ".join("".join(self._label_words).split())] = value
            self._label = None
        if form is None:
            return
        if tag == "option" and self._option is not None:
            value, is_selected = self._option
            form.choices.setdefault(self._select, {})[words] = value
            if self._first is None:
                self._first = value
            if is_selected:
                form.values.append((self._select, value))
            self._option = None
        elif tag == "select" and self._select:
            if self._first is not None and self._select not in dict(form.values):
                form.values.append((self._select, self._first))
            self._select = ""
        elif tag == "textarea" and self._area:
            form.values.append((self._area, "".join(self._words).removeprefix("\n")))
            self._area = ""
        elif tag == "button" and self._button:
            name, _, value = self._button.partition("\0")
            form.buttons.append((words, name, value))
            self._button = ""
        elif tag == "form":
            self._form = None


@dataclass(frozen=True)
class Page:
    """An answer, as its reader sees it."""

    url: str
    status: int
    content: bytes
    type: str

    @property
    def source(self) -> str:
        return self.content.decode(errors="replace")

    @property
    def words(self) -> str:
        body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", self.source, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())

    @property
    def main(self) -> str:
        """The words of the page without its menus."""
        found = re.search(r"<main\b.*?</main>", self.source, re.DOTALL)
        return Page(self.url, self.status, found[0].encode(), self.type).words if found else self.words

    def forms(self) -> list[Form]:
        reader = _Reader(self.url)
        reader.feed(self.source)
        return reader.forms

    def form(self, button: str) -> tuple[Form, tuple[str, str]]:
        """Find the form with a button of these words, and the pair that the button sends. Raises UnableToGoOn."""
        for form in self.forms():
            for words, name, value in form.buttons:
                if words == button or (button.endswith("*") and words.startswith(button[:-1])):
                    return form, (name, value)
        offered = sorted({words for form in self.forms() for words, _, _ in form.buttons if words})
        raise UnableToGoOn(f"{self.url} has no button “{button}”; it has {offered}. It says: {self.main[:800]}")

    def link(self, words: str) -> str:
        """Find the address behind a link with these words. Raises UnableToGoOn."""
        for href, inner in re.findall(r'<a\b[^>]*?href="([^"]*)"[^>]*>(.*?)</a>', self.source, re.DOTALL):
            found = " ".join(html.unescape(re.sub(r"<[^>]+>", "", inner)).split())
            if found == words or (words.endswith("*") and found.startswith(words[:-1])):
                return urljoin(self.url, html.unescape(href))
        raise UnableToGoOn(f"{self.url} has no link “{words}”. It says: {self.main[:800]}")


class Browser:
    """One person's session. An answer is a page that says the expected words, or the run ends with its own."""

    def __init__(self, url: str, *, email: str = "", password: str = "", secret: str = "") -> None:
        self.url, self.email, self.password, self.secret = url, email, password, secret
        self.session = requests.Session()
        self._last_code = ""

    def close(self) -> None:
        self.session.close()

    def get(self, path: str, *, says: str = "") -> Page:
        answer = self.session.get(urljoin(self.url, path), timeout=ANSWER_SECONDS_MAX)
        if ASKED_AGAIN in answer.url:
            answer = self._confirm(answer)
        return self._read(answer, says=says, asked=f"GET {path}")

    def press(
        self,
        page: Page,
        button: str,
        fields: Mapping[str, str | Sequence[str]] = {},
        *,
        files: Files = (),
        says: str = "",
        follow: bool = True,
    ) -> Page:
        """Fill in a page's form and press its button; the named fields must be there. Raises UnableToGoOn."""
        form, pressed = page.form(button)
        if unknown := sorted(set(fields) - form.names):
            raise UnableToGoOn(f"The form at {page.url} has no field {unknown}; it has {sorted(form.names)}.")
        sent = [pair for pair in form.values if pair[0] not in fields]
        for name, value in fields.items():
            chosen = [value] if isinstance(value, str) else value
            sent.extend((name, form.choices.get(name, {}).get(each, each)) for each in chosen)
        if pressed[0]:
            sent.append(pressed)
        if form.method == "get":
            answer = self.session.get(form.action, params=sent, timeout=ANSWER_SECONDS_MAX)
        else:
            answer = self.session.post(
                form.action,
                data=sent,
                files=list(files) or None,
                headers={"Referer": page.url},
                timeout=ANSWER_SECONDS_MAX,
                allow_redirects=follow,
            )
        if ASKED_AGAIN in answer.url:
            # The form is lost on the way, as it is for a person: it is filled in once more.
            self._confirm(answer)
            return self.press(self.get(page.url), button, fields, files=files, says=says, follow=follow)
        asked = f"“{button}” at {page.url}"
        if SECOND_LOOK in answer.text:
            # The page shows the figures as the product read them. A person reads them, and goes on.
            return self.press(self._read(answer, says="", asked=asked), f"{button}*", says=says, follow=follow)
        return self._read(answer, says=says, asked=asked)

    def _confirm(self, answer: requests.Response) -> requests.Response:
        """Show the second factor or the password again, where the last time is too long ago."""
        page = self._read(answer, says="Confirm that it is you", asked=answer.url)
        form, _ = page.form("Confirm")
        given = {"code": self.code()} if "code" in form.names else {"password": self.password}
        sent = [*((name, value) for name, value in form.values if name not in given), *given.items()]
        return self.session.post(form.action, data=sent, headers={"Referer": page.url}, timeout=ANSWER_SECONDS_MAX)

    def log_in(self) -> Page:
        """Log in with the password and, for people with one, the second factor."""
        page = self.press(self.get("/accounts/login/"), "Log in", {"login": self.email, "password": self.password})
        if "/2fa/" in page.url:
            page = self.press(page, "Log in", {"code": self.code()})
        return page

    def code(self) -> str:
        """Return a code that this person has not used yet: a used one is refused."""
        while True:
            left = TOTP_PERIOD - time.time() % TOTP_PERIOD
            code = totp_code(self.secret)
            if left > 3 and code != self._last_code:
                self._last_code = code
                return code
            time.sleep(min(left, 1))

    def _read(self, answer: requests.Response, *, says: str, asked: str) -> Page:
        page = Page(answer.url, answer.status_code, answer.content, answer.headers.get("Content-Type", ""))
        if answer.status_code >= 400:
            raise UnableToGoOn(f"{asked} answered {answer.status_code}: {page.main[:1500]}")
        if says and says not in page.words:
            raise UnableToGoOn(f"{asked} does not say “{says}” but: {page.main[:1500]}")
        return page


def totp_code(secret: str, at: float | None = None) -> str:
    """Compute the six digits of an authenticator app (RFC 6238)."""
    counter = struct.pack(">Q", int((time.time() if at is None else at) // TOTP_PERIOD))
    digest = hmac.new(base64.b32decode(secret + "=" * (-len(secret) % 8)), counter, hashlib.sha1).digest()
    offset = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[offset : offset + 4])[0] & 0x7FFFFFFF) % 10**6:06d}"
