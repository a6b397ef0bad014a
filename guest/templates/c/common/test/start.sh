# Starts the service for a test, which includes this. `send` sends its input and prints what comes
# until the service's FIN. HALFOPEN names the command, if it is not on the path. Needs `nc`.
set -eu
out=$(mktemp)
"${HALFOPEN:-halfopen}" serve build/service.wasm --listen 127.0.0.1:0 >"$out" &
server=$!
trap 'kill $server; rm "$out"' EXIT
until [ -s "$out" ]; do kill -0 $server; sleep 0.1; done # the first line is the address
address=$(head -n 1 "$out")

send() { nc -N "${address%:*}" "${address##*:}"; }

expect() {
  if [ "$1" != "$2" ]; then
    printf 'the service should send:\n%s\nand sent:\n%s\n' "$2" "$1" >&2
    exit 1
  fi
}
