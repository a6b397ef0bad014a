. test/start.sh
expect "$(printf 'hi' | send)" 'hi'
echo "the service echoes"
