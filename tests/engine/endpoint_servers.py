"""Servers on loopback: small ones of the standard library that answer as hosted services do on good
and bad days, and vLLM's own with a trained tiny model."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN_S = 0.04  # long beside what a busy machine adds
START_LIMIT_S = 600


class Handler(BaseHTTPRequestHandler):
    """`server.day` says how requests are answered; `server.asked` keeps path, key and body of
    each."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_args) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith("completions"):  # what a redirected request becomes
            self.server.asked.append((self.path, self.headers.get("Authorization"), {}))
        self.refuse(404, "Not Found")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("completions"):
            return self.refuse(404, "Not Found")
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        getattr(self, self.server.day)(body)

    def refuse(self, status: int, message: str, **headers: str) -> None:
        body = json.dumps({"error": {"message": message, "type": "error"}}).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def unauthorized(self, body: dict) -> None:
        """As careless services do, with the key in the message."""
        self.refuse(
            401,
            f"Incorrect API key provided: {self.headers.get('Authorization')}, from "
            f"{self.headers['Host']}",
        )

    def redirect(self, body: dict) -> None:
        self.refuse(302, "moved", Location=self.server.elsewhere)

    def chat_only(self, body: dict) -> None:
        if "messages" in body:
            return self.stream(body, body.get("max_completion_tokens", 1))
        self.refuse(404, "no such route")

    def well(self, body: dict) -> None:
        self.stream(body, body["max_tokens"])

    def short(self, body: dict) -> None:
        """A service that does not know `ignore_eos`."""
        self.stream(body, max(1, body["max_tokens"] // 2))

    def limited(self, body: dict) -> None:
        """The first streamed request is answered, those after it are turned away."""
        if not body.get("stream") or self.server.allowed.acquire(blocking=False):
            return self.stream(body, body["max_tokens"])
        self.refuse(429, "Rate limit reached")

    def disconnect(self, body: dict) -> None:
        self.stream(body, body["max_tokens"], cut=bool(body.get("stream")))

    def stream(self, body: dict, tokens: int, cut: bool = False) -> None:
        if not body.get("stream"):
            return self.refuse(200, "one token")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(tokens // 2 if cut else tokens):
            time.sleep(TOKEN_S)
            self.event({"choices": [{"text": " a", "delta": {"content": " a"}}]})
        if cut:
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        counts = {"prompt_tokens": self.server.prompt_tokens, "completion_tokens": tokens}
        self.event({"choices": [], "usage": counts})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, data: dict) -> None:
        self.chunk(f"data: {json.dumps(data)}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


class Quiet(ThreadingHTTPServer):
    """Clients that leave early are part of the day: what the server would print of it, their
    address in it, is no leak."""

    def handle_error(self, request, client_address) -> None:
        pass


@contextmanager
def serving(day: str, prompt_tokens: int = 16):
    """A server having such a day, its address in `url`."""
    with Quiet(("127.0.0.1", 0), Handler) as server:
        server.day, server.asked, server.allowed, server.prompt_tokens = (
            day,
            [],
            threading.Semaphore(),
            prompt_tokens,
        )
        server.daemon_threads = True
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def vllm_serving(model: Path, key: str, log: Path):
    """The address of `vllm serve` with that model on this CPU; requests need the key."""
    port = free_port()
    environment = {
        **os.environ,
        "VLLM_API_KEY": key,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(model),
        "--served-model-name",
        "tiny",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--enforce-eager",
        "--dtype",
        "float32",
        "--max-model-len",
        "256",
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait(process: subprocess.Popen, address: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"vllm serve did not start:\n{log.read_text(errors='replace')[-3000:]}")


def own_timing(url: str, key: str) -> float:
    """Seconds until two streamed requests at once are answered to the end."""

    def ask(i: int) -> None:
        body = {
            "model": "tiny",
            "prompt": [5 + i, *range(7, 70)],
            "max_tokens": 8,
            "ignore_eos": True,
            "stream": True,
        }
        request = urllib.request.Request(
            f"{url}/v1/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(2)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def assert_nothing_leaked(texts: list[str], folder: Path) -> None:
    files = [p for p in folder.rglob("*") if p.is_file()]
    for text in [*texts, *(p.read_text(errors="replace") for p in files)]:
        found = [word for word in ("Sesame", "127.0.0.1") if word in text]
        assert not found, f"{found} in {text[:300]}"
