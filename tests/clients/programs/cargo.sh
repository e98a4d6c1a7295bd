# Asks a sparse registry for the owners of a crate; its index says where its API is.
export CARGO_REGISTRIES_ACME_INDEX="sparse+$URL/index/" CARGO_REGISTRIES_ACME_TOKEN="$KEY"
python3 - <<'PYTHON' &
import http.server, json, os

class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"dl": os.environ["URL"], "api": os.environ["URL"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(os.environ["FRONT"])), Index).serve_forever()
PYTHON
sleep 1
CARGO_REGISTRIES_ACME_INDEX="sparse+http://127.0.0.1:$FRONT/" cargo owner --list --registry acme foo
kill $!
