. test/start.sh
expect "$(printf 'upper hello\nreverse abc\ncount four' | send)" "$(printf 'HELLO\ncba\n4')"
echo "each line has an answer"
