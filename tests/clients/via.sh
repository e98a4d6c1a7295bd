# Starts a proxy with this command line, waits for an answer of the recorder, and sends it a request of curl with the
# key, over TLS, from $CLIENT, and with the header $EXTRA.
"$@" &
proxy=$!
trap 'kill $proxy' EXIT
for _ in $(seq 100); do
  [ "$(curl -sk -o /dev/null -w '%{http_code}' "https://127.0.0.1:$FRONT/")" = 401 ] && break
  sleep 0.1
done
curl -sSk --http1.1 --interface "$CLIENT" --oauth2-bearer "$KEY" ${EXTRA:+-H "$EXTRA"} "https://127.0.0.1:$FRONT/v1"
