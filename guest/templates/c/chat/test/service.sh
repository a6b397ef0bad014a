. test/start.sh
expect "$(printf 'ann\n/who\n/quit\n' | send)" "$(printf '%s\n' 'What is your name?' \
  'Welcome. There are /who and /quit.' '* here: ann' 'Bye.')"
echo "one can enter the chat, and leave it"
