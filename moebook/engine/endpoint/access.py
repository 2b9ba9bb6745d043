"""The way to a server elsewhere: address, model and key from the environment, and no word of them
in any text.

    MOEBOOK_ENDPOINT_URL        address of the API as its clients take it: https://host/v1 (without
                                a path, /v1 is meant)
    MOEBOOK_ENDPOINT_MODEL      the model's name at that server
    MOEBOOK_ENDPOINT_TOKENIZER  folder or name of the model's tokenizer, by which prompts are made;
                                default: the model
    MOEBOOK_ENDPOINT_KEY        sent as `Authorization: Bearer`; optional

The key travels in the environment alone: never on a command line, in a file or in a record; an
address that holds a user or password is refused. `scrub` takes key and host out of whatever is
shown, logged or raised."""

import base64
import http.client
import ipaddress
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from moebook import __version__
from moebook.engine.base import EngineFailed

URL, MODEL, TOKENIZER, KEY = (
    f"MOEBOOK_ENDPOINT_{name}" for name in ("URL", "MODEL", "TOKENIZER", "KEY")
)
APIS = {
    "completions": {"prompt": "one"},
    "chat/completions": {"messages": [{"role": "user", "content": "one"}]},
}
NOT_THERE = (404, 405, 501)  # what servers say of an API that they do not have
IPV4 = r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"
IPV6 = r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?!\w|:[0-9A-Fa-f:])"
ANSWER_LIMIT_S = 60  # for one token on a server that may be waking up
SPOKEN = 8  # letters of a key that services repeat, as `sk-abcde…`
AGAIN = "then measure again with `--retry infeasible,failed`"


@dataclass(frozen=True)
class Access:
    """An address up to and with its version, and what to ask there. Neither address nor key shows
    in its repr."""

    url: str = field(repr=False)
    model: str
    tokenizer: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Access":
        """EngineFailed `infeasible` that names the variables to set, or what is wrong with them."""
        environ = os.environ if environ is None else environ
        given = {name: environ.get(name, "").strip() for name in (URL, MODEL, TOKENIZER, KEY)}
        if missing := [name for name in (URL, MODEL) if not given[name]]:
            raise EngineFailed(
                "infeasible", f"no endpoint is known: set {' and '.join(missing)}, {AGAIN}"
            )
        tokenizer, key = given[TOKENIZER] or given[MODEL], given[KEY] or None
        if key and not re.fullmatch(r"[!-~]+", key):
            raise EngineFailed(
                "infeasible",
                f"{KEY} holds characters that no request can carry: give printable ASCII without "
                f"blanks, as the service shows it, {AGAIN}",
            )
        return cls(_with_version(given[URL]), given[MODEL], tokenizer, key)

    def probe(self) -> str:
        """The first of APIS that answers with a token. EngineFailed with the server's words where
        none does."""
        for api, question in APIS.items():
            status, words = self._ask(api, question)
            if status == 200:
                return api
            if status not in NOT_THERE:
                break
        raise EngineFailed(
            "failed",
            f"the server refused a request for one token: {described(status)}"
            f"{': ' * bool(words)}{words}",
        )

    def _ask(self, api: str, question: dict) -> tuple[int, str]:
        """Status and the server's words on a request for one token. EngineFailed where no answer
        came."""
        address = f"{self.url}/{api}"
        body = json.dumps({"model": self.model, "max_tokens": 1, **question}).encode()
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            request = urllib.request.Request(address, body, self._headers())
            with opener.open(request, timeout=ANSWER_LIMIT_S) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, _words(error.read(4096))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise EngineFailed(
                "failed", f"no answer from the server: {type(reason).__name__}: {reason}"
            ) from None

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": f"moebook/{__version__}"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return headers

    def scrub(self, text: str) -> str:
        """The text without key and host, in whatever form and case they stand there, the key also
        where it is cut short. Errors of a connection name the host by the number that its name
        stood for, so every IP address goes."""
        forms = set(_forms(self.key)) if self.key else set()
        for form in sorted(forms, key=len, reverse=True):
            text = re.sub(_spoken(form), "<secret>", text, flags=re.IGNORECASE)
        parts = urlsplit(self.url)
        for host in filter(None, (parts.netloc, parts.hostname)):
            alone = rf"(?<![\w.-]){re.escape(host)}(?![\w-])"
            text = re.sub(alone, "<endpoint>", text, flags=re.IGNORECASE)
        for form in (IPV4, IPV6):
            text = re.sub(form, _hidden, text)
        return text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer, not a way: the key goes to the server that was named and to no
    other."""

    def redirect_request(self, *_args) -> None:
        return None


def _forms(secret: str) -> tuple[str, ...]:
    """As addresses, shells, JSON, Python and headers write it."""
    quoted = quote(secret), quote(secret, safe=""), unquote(secret)
    return (secret, *quoted, json.dumps(secret)[1:-1], repr(secret)[1:-1], _base64(secret))


def _spoken(form: str) -> str:
    """Pattern of a form of the key; of a long one, of its beginning with what follows."""
    whole = re.escape(form)
    return rf"{whole}|{re.escape(form[:SPOKEN])}[^\s\"']*" if len(form) >= 2 * SPOKEN else whole


def _hidden(found: re.Match) -> str:
    try:
        ipaddress.ip_address(found[0])
    except ValueError:  # a time of day, a version
        return found[0]
    return "<endpoint>"


def described(status: int | str) -> str:
    """`HTTP 429 Too Many Requests`, from the number or from the phrase alone; any other text as it
    is."""
    phrases = http.client.responses
    number = {phrase: number for number, phrase in phrases.items()}.get(status, status)
    if isinstance(number, str):
        return number
    return f"HTTP {number} {phrases.get(number, '')}".rstrip()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _with_version(url: str) -> str:
    """EngineFailed where it is no address; the text does not repeat it, since it may hold a
    password."""
    try:
        parts = urlsplit(url)
        valid = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and not (parts.query or parts.fragment or "@" in parts.netloc)
        )
        valid = valid and (parts.port is None or parts.port > 0) and not re.search(r"\s", url)
    except ValueError:
        valid = False
    if not valid:
        raise EngineFailed(
            "infeasible",
            f"{URL} is no address of an API; it looks like https://host/v1, without user or "
            f"password (a key belongs in {KEY}). Set it, {AGAIN}",
        )
    return url.rstrip("/") if parts.path.strip("/") else f"{url.rstrip('/')}/v1"


def _words(body: bytes) -> str:
    """The message in an error answer: of its JSON, or its text."""
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
        found = found.get("error", found)
        text = (
            found if isinstance(found, str) else found.get("message") or found.get("detail") or text
        )
    except (ValueError, AttributeError):
        pass
    return " ".join(str(text).split())
