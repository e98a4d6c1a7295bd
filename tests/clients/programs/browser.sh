# Opens a page in a browser (chromium, firefox), which opens a WebSocket or fetches.
case "$2" in
socket) line="new WebSocket('ws://$HOST/live', ['acme.v1', 'acme.key.$KEY'])" ;;
fetch) line="fetch('$URL/v1', {headers: {'X-API-Key': '$KEY'}})" ;;
esac
mkdir page
echo "<!doctype html><script>$line</script>" > page/index.html
python3 -m http.server -d page --bind 127.0.0.1 "$FRONT" &
server=$!
sleep 1
case "$1" in
chromium) timeout 20 chromium --headless --no-sandbox --disable-gpu --no-proxy-server --user-data-dir="$PWD/profile" \
  --virtual-time-budget=5000 --dump-dom "http://localhost:$FRONT/" ;;
firefox) mkdir profile; timeout 40 firefox-esr --headless --profile "$PWD/profile" "http://localhost:$FRONT/" ;;
esac
kill $server
