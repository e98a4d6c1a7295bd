#!/usr/bin/env python3
"""Captures the very bytes that clients and proxies send, for the rows of the guide *Clients*.

    python3 capture.py clients.txt            all rows
    python3 capture.py proxies.txt nginx      the rows with "nginx" in their first line
    python3 capture.py --redirects clients.txt
                                              whether a redirect to another path, port, host or scheme keeps the key

It runs each row's command against a recorder on loopback, and prints the row with the head that arrived. Compare with
the file (`| diff clients.txt -`), or paste the row into it. The project's CI does not run this, since the programs must
be installed: all of them are in Debian, PyPI, npm and crates.io, with NODE_PATH, CLASSPATH (OkHttp, Okio, HttpClient,
HttpCore and Commons) and DOTNET_ROOT for those that need them. A row is

    # the client, with its version
    setting: the setting that takes its key
    answer: 200 {"object": "list"}            optional: the status and the body that it wants
    run: a line of bash
    follow: such a line that follows redirects    optional: where `run` does not

    the head

The line runs in a folder of its own with these variables:

    URL, HOST, PORT   the recorder
    HTTPS             its URL for TLS; CERTIFICATE is its certificate. As a proxy (CONNECT), it is every host that the
                      row names as `hosts:`
    FRONT             a free port, for a proxy
    KEY, ID, SECRET   a made-up key and its halves
    HERE              this folder
    CONF              the folder proxies/, with the values of @HOST@, @PORT@ and @FRONT@ filled in

In the head, these values are replaced by what the test fills in again: the key by `KEY`, and the loopback addresses by
those of documentation. The names of the machine and of its kernel are replaced too. A request without a key is answered
with 401 and a challenge for Basic.
"""

import base64
import os
import platform
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ID, SECRET = "01890a5d-ac96-774b-bcce-b302099a8057", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"
KEY = "acme_test_0LuGM1dAzlqNeTR9gIheIB0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg08Y5uA"
# The client of a proxy is at another loopback address than the proxy.
CLIENT = "127.0.0.7"
BASE64 = re.compile(r"[A-Za-z0-9+/]{16,}=*")


def decoded(match):
    """Base64 of a key, as `base64(…)`."""
    try:
        text = base64.b64decode(match.group(), validate=True).decode()
    except ValueError:
        return match.group()
    return f"base64({text})" if KEY in text or SECRET in text else match.group()


def has_key(head):
    return any(part in BASE64.sub(decoded, head) for part in (KEY, SECRET))


def shown(head, values):
    head = BASE64.sub(decoded, head)
    pattern = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
    return re.sub(pattern, lambda match: values[match.group()], head)


class Recorder:
    def __init__(self, answer, certificate):
        self.redirect_to = None
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(certificate)
        status, _, self.body = (answer or "200 {}").partition(" ")
        self.status, self.heads = status, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        if client.recv(1, socket.MSG_PEEK) == b"\x16":
            client = self.tls.wrap_socket(client, server_side=True)
        stream = client.makefile("rb")
        while True:
            lines = []
            while (line := stream.readline()) not in (b"\r\n", b""):
                lines.append(line.decode("latin-1").rstrip("\r\n"))
            if not lines:
                return
            if lines[0].startswith("CONNECT "):
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                return self.serve(client)
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            if fields.get("expect") == "100-continue":
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if fields.get("transfer-encoding") == "chunked":
                while size := int(stream.readline(), 16):
                    stream.read(size + 2)
                stream.readline()
            else:
                stream.read(int(fields.get("content-length", 0)))
            head = "\n".join(lines)
            self.heads.append(head)
            status = self.status if has_key(head) else "401"
            answer = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
            if " /to" in lines[0]:
                status = "200"
            elif has_key(head) and self.redirect_to:
                client.sendall(f"HTTP/1.1 302 X\r\nLocation: {self.redirect_to}\r\nContent-Length: 0\r\n\r\n".encode())
                continue
            if "access-control-request-method" in fields:
                allowed = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: *"
                client.sendall(f"HTTP/1.1 204 X\r\n{allowed}\r\n\r\n".encode())
                continue
            if status == "401":
                answer += 'WWW-Authenticate: Basic realm="api"\r\n'
            body = "" if lines[0].startswith("HEAD ") else self.body
            client.sendall(f"{answer}\r\n{body}".encode())

    def with_key(self):
        return next(filter(has_key, self.heads), None)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def rows(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        text = file.read()
    for row in text.split("\n# ")[1:]:
        about, _, head = row.partition("\n\n")
        client, *settings = about.splitlines()
        yield client, dict(line.split(": ", 1) for line in settings), head.strip()


def certificate(folder, hosts):
    """A key and a certificate for these hosts and loopback, in one file."""
    path = os.path.join(folder, "certificate.pem")
    names = ",".join(["IP:127.0.0.1", "DNS:localhost", *(f"DNS:{host}" for host in hosts)])
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", path, "-out", path + ".crt",
                    "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}"], check=True, capture_output=True)
    with open(path, "a", encoding="utf-8") as both, open(path + ".crt", encoding="utf-8") as own:
        both.write(own.read())
    return path


def capture(client, settings):
    with tempfile.TemporaryDirectory() as folder:
        return captured(client, settings, folder)


def captured(client, settings, folder):
    pem = certificate(folder, settings.get("hosts", "").split())
    recorder, front = Recorder(settings.get("answer"), pem), str(free_port())
    output = run(settings["run"], recorder, folder, pem, front)
    head = recorder.with_key()
    if head is None:
        print(f"{client}: no request with the key came\n{recorder.heads}\n{output}", file=sys.stderr)
    for own, other in [(socket.gethostname(), "proxy-1"), (platform.release(), "6.12.0")]:
        head = re.sub(rf"\b{re.escape(own)}\b", other, head or "")
    host = f"127.0.0.1:{recorder.port}"
    values = {
        host: "api.example.com",
        f"localhost:{recorder.port}": "api.example.com",
        f"127.0.0.1:{front}": "api.example.com",
        f"localhost:{front}": "app.example.com",
        CLIENT: "203.0.113.7",
        "127.0.0.1": "198.51.100.9",
        KEY: "KEY",
        ID: "ID",
        SECRET: "SECRET",
    }
    return shown(head, values)


def redirected(settings):
    """What a client does at a redirect to another path, port, host or scheme."""
    for kind in ("path", "port", "host", "scheme"):
        with tempfile.TemporaryDirectory() as folder:
            pem = certificate(folder, settings.get("hosts", "").split())
            recorder, other = Recorder(settings.get("answer"), pem), Recorder(settings.get("answer"), pem)
            recorder.redirect_to = {
                "path": f"http://127.0.0.1:{recorder.port}/to",
                "port": f"http://127.0.0.1:{other.port}/to",
                "host": f"http://localhost:{recorder.port}/to",
                "scheme": f"https://127.0.0.1:{other.port}/to",
            }[kind]
            run(settings.get("follow", settings["run"]), recorder, folder, pem, str(free_port()))
            followed = [head for head in recorder.heads + other.heads if " /to" in head.splitlines()[0]]
            outcome = "not followed" if not followed else "kept" if has_key(followed[0]) else "dropped"
            yield f"{kind} {outcome}"


def run(line, recorder, folder, pem, front):
    """Runs a line of bash against a recorder, and returns its output."""
    host = f"127.0.0.1:{recorder.port}"
    conf = os.path.join(folder, "conf")
    os.mkdir(conf)
    places = {"HOST": host, "PORT": str(recorder.port), "FRONT": front, "CONF": conf, "CERTIFICATE": pem}
    for name in os.listdir(os.path.join(HERE, "proxies")):
        with open(os.path.join(HERE, "proxies", name), encoding="utf-8") as file:
            text = re.sub("@([A-Z]+)@", lambda match: places[match.group(1)], file.read())
        with open(os.path.join(conf, name), "w", encoding="utf-8") as file:
            file.write(text)
    if "NODE_PATH" in os.environ:
        os.symlink(os.environ["NODE_PATH"], os.path.join(folder, "node_modules"))
    trust = dict.fromkeys(["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"],
                          pem + ".crt")
    environment = dict(os.environ, **trust, URL=f"http://{host}", HTTPS=f"https://{host}", FRONT=front, CLIENT=CLIENT,
                       HOST=host, PORT=str(recorder.port), KEY=KEY, ID=ID, SECRET=SECRET, HERE=HERE, CONF=conf,
                       CERTIFICATE=pem, HOME=folder)
    # The user's settings must not matter, but cargo needs its toolchain and its registry.
    for name, default in [("RUSTUP_HOME", "~/.rustup"), ("CARGO_HOME", "~/.cargo")]:
        environment.setdefault(name, os.path.expanduser(default))
    try:
        ended = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True,
                               stdin=subprocess.DEVNULL, timeout=120, check=False)
        return ended.stdout + ended.stderr
    except subprocess.TimeoutExpired as error:
        return f"{error.stdout}{error.stderr}"


def main():
    asks_redirects = sys.argv[1] == "--redirects"
    name, *parts = sys.argv[1 + asks_redirects :]
    for client, settings, _ in rows(name):
        if "run" not in settings or not all(part in client for part in parts):
            continue
        if asks_redirects:
            print(f"{client}: {', '.join(redirected(settings))}", flush=True)
            continue
        print(f"# {client}")
        for setting, value in settings.items():
            print(f"{setting}: {value}")
        print(f"\n{capture(client, settings)}\n", flush=True)


if __name__ == "__main__":
    main()
