# Varnish has no TLS: HAProxy in front of it has, and writes the scheme.
python3 - <<'PYTHON' > port
import socket
print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])
PYTHON
varnishd -j none -F -a "127.0.0.1:$(cat port)" -f "$CONF/varnish.vcl" -n "$PWD/varnish" &
varnish=$!
sleep 3
sed -i "s/$HOST/127.0.0.1:$(cat port)/" "$CONF/haproxy.cfg"
sh "$HERE/via.sh" haproxy -f "$CONF/haproxy.cfg"
kill $varnish
